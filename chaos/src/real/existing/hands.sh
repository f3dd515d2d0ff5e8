# What quorate chaos does on a master's machine. It is sourced behind the lines that set:
#   D  directory of this run for this master     A  where its API listens, as /proc/net/tcp writes it (a pattern)
#   T  name of the nft table                     U  its systemd unit, when that is known
#   S  "yes" when somebody else restarts it      LC_ALL=C
# POSIX sh with awk, sed, setsid, xargs -0; nft for cuts.

# The process that listens.
pid() {
  i=$(awk -v a="$A" '$4 == "0A" && $2 ~ a { print $10; exit }' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  [ -n "$i" ] || return 1
  p=$(ls -l /proc/[0-9]*/fd 2>/dev/null |
    awk -v s="socket:[$i]" '/^\/proc\// { split($1, part, "/") } $NF == s && !found { print part[3]; found = 1 }')
  [ -n "$p" ] || return 1
  echo "$p"
}

# One field of /proc/PID/stat, counted from the state; the name before it may hold anything.
stat_of() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f "$2"; }

# Whether it is still that process: pid, start time.
same() { [ -n "$2" ] && [ "$(stat_of "$1" 20)" = "$2" ] && [ "$(stat_of "$1" 1)" != Z ]; }

# The unit whose main process it is.
unit() {
  if [ -n "$U" ]; then echo "$U"; return; fi
  u=$(sed -n 's/.*\/\([^/]*\.service\)$/\1/p' "/proc/$1/cgroup" 2>/dev/null | head -n 1)
  [ -n "$u" ] && [ "$(systemctl show -p MainPID --value "$u" 2>/dev/null)" = "$1" ] && echo "$u"
  return 0
}

# What there is to know before anything is done.
probe() {
  p=$(pid) || { echo "nothing listens where its API is to be"; exit 3; }
  echo "pid $p"
  echo "comm $(cat "/proc/$p/comm")"
  echo "unit $(unit "$p")"
  [ "$(stat -c %u "/proc/$p")" = "$(id -u)" ] && echo "own yes"
  nft list tables >/dev/null 2>&1 && echo "nft yes"
  for tool in awk sed setsid xargs cut; do command -v "$tool" >/dev/null || { echo "there is no $tool"; exit 3; }; done
}

# One at a time: the harness, a guard or the keeper. Who does not come to an end is not waited for without end; when
# the directory is gone, another has taken everything back.
alone() {
  n=0
  until mkdir "$D/alone" 2>/dev/null; do
    [ -d "$D" ] || return 1
    [ $n -lt 120 ] || return 0
    sleep 0.1
    n=$((n + 1))
  done
}

done_alone() { rmdir "$D/alone" 2>/dev/null; return 0; }

# Everything is taken back after so many seconds, unless another guard took over: guard TOKEN SECONDS
guard() {
  alone || { echo "$D is gone"; exit 3; }
  echo "$1" >"$D/token"
  end_of guard
  setsid sh -c 'sleep "$1"; [ "$(cat "$2/token" 2>/dev/null)" = "$3" ] && . "$2/hands" && undo' \
    sh "$2" "$D" "$1" </dev/null >/dev/null 2>&1 &
  begun guard "$!"
  done_alone
}

# Notes a guard, or a keeper, that was started: its process leads a session of its own before anybody may end it with
# what it has started. Who cannot be heard for long is started all the same.
begun() {
  n=0
  while [ "$(stat_of "$2" 4)" != "$2" ] && [ -e "/proc/$2" ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n + 1)); done
  echo "$2 $(stat_of "$2" 20)" >"$D/$1"
}

# Whether a guard, or a keeper, is there.
lives() { read -r g since 2>/dev/null <"$D/$1" && same "$g" "$since"; }

# Ends a guard, or a keeper, with what it has started.
end_of() {
  n=0
  while lives "$1" && [ $n -lt 20 ]; do
    kill -KILL "-$g" 2>/dev/null
    sleep 0.1
    n=$((n + 1))
  done
  lives "$1" || rm -f "$D/$1"
}

# Everything is taken back and removed when the harness was not heard from for so many seconds: keep SECONDS
# A guard's time comes first: a fault may be what keeps the harness from being heard.
keep() {
  setsid sh -c '. "$1/hands"; keeper "$2"' sh "$D" "$1" </dev/null >/dev/null 2>&1 &
  begun keeper "$!"
}

# The harness is there.
beat() { echo "$1" >"$D/beat"; }

keeper() {
  silent=0 last=
  while [ "$silent" -lt "$1" ]; do
    sleep 1
    [ -d "$D" ] || return 0
    heard=
    read -r heard 2>/dev/null <"$D/beat"
    if [ "$heard" = "$last" ] && ! lives guard; then silent=$((silent + 1)); else silent=0; fi
    last=$heard
  done
  # Nobody else is to end it now.
  rm -f "$D/keeper"
  finish
}

# Ends it: down kill, or down stop
down() {
  p=$(pid) || { echo "it does not run"; exit 3; }
  u=$(unit "$p")
  echo "$u" >"$D/unit"
  readlink "/proc/$p/exe" | sed 's/ (deleted)$//' >"$D/exe"
  readlink "/proc/$p/cwd" >"$D/cwd"
  readlink "/proc/$p/fd/1" >"$D/out"
  cat "/proc/$p/environ" >"$D/environ"
  cat "/proc/$p/cmdline" >"$D/cmdline"
  echo "$p $(stat_of "$p" 20)" >"$D/down"
  echo "$p $(stat_of "$p" 20)"
  case "$1-$u" in
    stop-?*) systemctl stop "$u" ;;
    stop-) kill -TERM "$p" ;;
    *) kill -KILL "$p" ;;
  esac
}

# Starts it again, as it was started: by its unit, by whoever else does, or with its own words and environment.
up() {
  mv "$D/down" "$D/was-down" 2>/dev/null || return 0
  u=$(cat "$D/unit")
  if [ -n "$u" ]; then
    systemctl reset-failed "$u" 2>/dev/null
    systemctl start "$u"
    return
  fi
  [ "$S" = yes ] && return
  read -r p s <"$D/was-down"
  n=0
  while same "$p" "$s" && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
  pid >/dev/null && return
  out=$(cat "$D/out")
  [ -f "$out" ] || out=/dev/null
  cd "$(cat "$D/cwd")" || cd /
  {
    printf '%s\0' "$out"
    cat "$D/environ"
    printf 'QUORATE_CHAOS_EXE=%s\0sh\0-c\0%s\0sh\0' "$(cat "$D/exe")" \
      'shift; e=$QUORATE_CHAOS_EXE; unset QUORATE_CHAOS_EXE; exec "$e" "$@"'
    cat "$D/cmdline"
  } | xargs -0 sh -c 'out=$1; shift; setsid env -i "$@" </dev/null >>"$out" 2>&1 &' sh
}

hold() {
  p=$(pid) || { echo "it does not run"; exit 3; }
  echo "$p $(stat_of "$p" 20)" >"$D/held"
  kill -STOP "$p"
  echo "$p"
}

wake() {
  mv "$D/held" "$D/was-held" 2>/dev/null || return 0
  read -r p s <"$D/was-held"
  if same "$p" "$s"; then kill -CONT "$p"; fi
}

# Nothing comes in from these addresses.
cut_from() {
  nft delete table inet "$T" 2>/dev/null
  nft "add table inet $T" || exit 3
  nft "add chain inet $T in { type filter hook input priority -300; }" || exit 3
  for a in "$@"; do
    case $a in *:*) f=ip6 ;; *) f=ip ;; esac
    nft "add rule inet $T in $f saddr $a drop" || exit 3
  done
}

heal() { nft delete table inet "$T" 2>/dev/null; return 0; }

# Takes everything back; nothing when there is nothing.
undo() {
  alone || return 0
  wake
  heal
  up
  started=$?
  done_alone
  return $started
}

# What is there now.
look() {
  if p=$(pid); then echo "runs $p $(stat_of "$p" 1)"; fi
  if [ -e "$D/down" ]; then
    read -r p s <"$D/down"
    if same "$p" "$s"; then echo "lives $p"; fi
  fi
  if [ -e "$D/held" ]; then
    read -r p s <"$D/held"
    echo "held $p $(stat_of "$p" 1)"
  fi
  nft list table inet "$T" 2>/dev/null | sed -n 's/.*saddr \([^ ]*\) drop.*/drops \1/p'
  return 0
}

# Takes everything back for good, and says what is left.
finish() {
  undo
  alone || return 0
  end_of guard
  end_of keeper
  if [ -e "$D/was-held" ]; then
    read -r p s <"$D/was-held"
    if same "$p" "$s" && [ "$(stat_of "$p" 1)" = T ]; then echo "process $p is stopped"; fi
  fi
  if nft list table inet "$T" >/dev/null 2>&1; then echo "the nft table $T"; fi
  for kind in guard keeper; do
    if lives $kind; then echo "process $g, the $kind"; fi
  done
  rm -rf "$D"
  if [ -e "$D" ]; then echo "the directory $D"; fi
  return 0
}
