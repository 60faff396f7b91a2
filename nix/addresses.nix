# IP addresses as numbers and as text. sshd compares the addresses of PermitOpen as text, so all are in their shortest
# form here, as our own programs and most others write them (RFC 5952).
{ lib }:

let
  inherit (builtins) bitAnd bitXor concatLists concatStringsSep elemAt foldl' genList head length match stringLength substring;

  power = base: exponent: foldl' (product: _: product * base) 1 (genList (n: n) exponent);

  digits = lib.stringToCharacters "0123456789abcdef";
  valueOf = lib.listToAttrs (lib.imap0 (value: name: { inherit name value; }) digits);
  fromHex = text: foldl' (sum: digit: sum * 16 + valueOf.${digit}) 0 (lib.stringToCharacters (lib.toLower text));
  toHex = number: if number < 16 then elemAt digits number else toHex (number / 16) + elemAt digits (bitAnd number 15);
  toInt = text: if match "0*" text != null then 0 else lib.toInt (head (match "0*(.*)" text));

  # [ "10.0.0.1" "24" ]; the prefix is null where none is written.
  split = text:
    let parts = lib.splitString "/" text; in
    { address = head parts; prefix = if length parts > 1 then toInt (elemAt parts 1) else null; };

  # ---- IPv4 ----

  parse4 = text: foldl' (sum: part: sum * 256 + toInt part) 0 (lib.splitString "." text);
  show4 = number: concatStringsSep "." (map (place: toString (bitAnd (number / power 256 place) 255)) [ 3 2 1 0 ]);

  # ---- IPv6: eight numbers ----

  groups = text: if text == "" then [ ] else lib.splitString ":" text;
  parse6 = text:
    let
      halves = lib.splitString "::" text;
      front = groups (head halves);
      back = if length halves > 1 then groups (elemAt halves 1) else [ ];
      zeros = genList (_: "0") (8 - length front - length back);
    in
    map fromHex (front ++ (if length halves > 1 then zeros else [ ]) ++ back);

  # The longest run of zeros, of two or more; the first of several.
  longest = numbers:
    let
      run = start: if start > 7 || elemAt numbers start != 0 then 0 else 1 + run (start + 1);
      runs = genList (start: { inherit start; length = run start; }) 8;
    in
    foldl' (best: one: if one.length > best.length then one else best) { start = 0; length = 1; } runs;
  show6 = numbers:
    let
      gap = longest numbers;
      text = list: concatStringsSep ":" (map toHex list);
      after = gap.start + gap.length;
    in
    if gap.length < 2 then text numbers
    else "${text (lib.take gap.start numbers)}::${text (lib.drop after numbers)}";

  isSix = text: lib.hasInfix ":" text;
in
rec {
  inherit isSix split toHex;

  # An address in its shortest form, without a prefix.
  bare = text: let plain = (split text).address; in if isSix plain then show6 (parse6 plain) else plain;

  # "10.0.0.1/24" → "10.0.0.0/24"; "fd00::1/64" → "fd00::/64"
  networkOf = text:
    let
      parts = split text;
      size = power 2 (32 - parts.prefix);
      number = parse4 parts.address;
      masked = index: group:
        let kept = lib.max 0 (lib.min 16 (parts.prefix - 16 * index)); size = power 2 (16 - kept); in (group / size) * size;
    in
    if isSix text then "${show6 (lib.imap0 masked (parse6 parts.address))}/${toString parts.prefix}"
    else "${show4 ((number / size) * size)}/${toString parts.prefix}";

  # All addresses from the first to the last, of IPv4.
  between = first: last:
    let from = parse4 first; in genList (index: show4 (from + index)) (lib.max 0 (parse4 last - from + 1));

  # All addresses of hosts in the network of "10.0.0.1/24".
  hostsOf = text:
    let
      network = split (networkOf text);
      from = parse4 network.address;
    in
    between (show4 (from + 1)) (show4 (from + power 2 (32 - network.prefix) - 2));

  # The middle of the network, for DHCP: of 254 addresses, the 100th to the 199th.
  middleOf = text:
    let
      network = split (networkOf text);
      from = parse4 network.address;
      size = power 2 (32 - network.prefix);
    in
    { first = show4 (from + size * 2 / 5 - 2); last = show4 (from + size * 4 / 5 - 5); };

  # The address that a NIC gives itself in a network of 64 bits, from its MAC (RFC 4291, appendix A).
  fromMac = network: mac:
    let
      byte = map fromHex (lib.splitString ":" mac);
      pair = high: low: high * 256 + low;
      at = elemAt byte;
    in
    show6 (lib.take 4 (parse6 (split network).address) ++ [
      (pair (bitXor (at 0) 2) (at 1)) (pair (at 2) 255) (pair 254 (at 3)) (pair (at 4) (at 5))
    ]);
}
