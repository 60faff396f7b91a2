# shellcheck shell=sh
# watch URL SECONDS: ask again and again for so long; say when it stops to answer, when it answers again, and how long the
# longest silence was.
set -eu
now() { awk '{ printf "%d\n", $1 * 1000 }' /proc/uptime; } # milliseconds
url=$1 last=$(now) state='' longest=0
end=$((last + $2 * 1000))
while began=$(now) && [ "$began" -lt "$end" ]; do
  if answer=$(curl --silent --fail --max-time 1 "$url"); then
    at=$(now)
    case $state in
      '') echo "answers: $answer" ;;
      silent)
        silence=$((at - last))
        echo "answers again after $silence ms: $answer"
        [ "$silence" -le "$longest" ] || longest=$silence
        ;;
    esac
    last=$at state=answers
  elif [ "$state" = answers ]; then
    echo "silent"
    state=silent
  fi
  sleep 0.2
done
if [ "$state" != answers ]; then
  echo "the time is over: ${state:-no answer}"
  exit 1
fi
echo "the longest silence: $longest ms"
