# shellcheck shell=sh
# watch URL SECONDS: ask again and again, and say when it stops to answer, when it answers again, and after how long.
set -eu
now() { awk '{ printf "%d\n", $1 * 1000 }' /proc/uptime; } # milliseconds
url=$1 last=$(now) state=''
end=$((last + $2 * 1000))
while began=$(now) && [ "$began" -lt "$end" ]; do
  if answer=$(curl --silent --fail --max-time 1 "$url"); then
    at=$(now)
    case $state in
      '') echo "answers: $answer" ;;
      silent) echo "answers again after $((at - last)) ms: $answer" && exit ;;
    esac
    last=$at state=answers
  elif [ "$state" = answers ]; then
    echo "silent"
    state=silent
  fi
  sleep 0.2
done
echo "the time is over: ${state:-no answer}"
exit 1
