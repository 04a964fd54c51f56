# Scenarios of single features, sourced by `run`. The programs (README.md, "Features") say what they see; what should be there
# is said here, once for all languages. A message is known by its number.

# Which numbers come, where not all do: a condition of awk.
declare -A comes=(
  [tags]='$1 % 4 == 1 || $1 % 4 == 3'
  [sql]='$1 >= 100 && $1 <= 199 || $1 % 4 == 2 && $1 >= 300'
  [retry]='$1 % 10 != 9'
  [timer]='$1 % 4 != 0'
  [transaction]='$1 % 3 == 0 || $1 % 3 == 2 && $1 % 2 == 0'
)
features="plain tags sql ordered broadcast retry delay timer transaction request lite trace namespace admin"
is_feature() { grep -qw -- "$1" <<<"$features"; }

within() { # within SECONDS CHECK…: waits until the check holds
  local until=$((SECONDS + $1)); shift
  while ! "$@"; do [ "$SECONDS" -lt "$until" ] || return 1; sleep 0.1; done
}
expected() { # expected CONDITION: numbers below the scenario's count
  seq 0 $((count - 1)) | awk "$1" | sort
}
numbers() { # numbers WORD FILE…: of the lines that begin so, with repetitions
  local word=$1; shift
  awk -v word="$word" '$1 == word { print $2 }' "$@" | sort
}
has() { # has COUNT WORD FILE…: as many lines, at least
  [ "$(numbers "${@:2}" | wc -l)" -ge "$1" ]
}
same() { # same WHAT FILE FILE: fails with what differs
  local differ; differ=$(comm -3 "$2" "$3" | tr -s '\t' ' ' | head -n 5 | paste -sd ' ')
  [ -z "$differ" ] || { echo "$1: only on one side: $differ"; return 1; }
}
come() { # come WHAT CONDITION WORD FILE…: these numbers and no others, each once, and no more in a while
  local what=$1 condition=$2 wanted; shift 2
  wanted=$(expected "$condition" | wc -l)
  within "$feature_limit_s" has "$wanted" "$@" || { echo "$what: $(numbers "$@" | wc -l) of $wanted"; return 1; }
  sleep 1
  same "$what" <(expected "$condition") <(numbers "$@")
}
feature_limit_s=60 # of one wait

began=() # process ids of this scenario's programs
begin() { # begin KIND OUT FEATURE ROLE TOPIC GROUP: a program that runs until `end`
  : >"$2"
  program "$1" Feature "$3" "$4" "$ns" "$5" "$6" "$count" >"$2" 2>"$2.err" &
  began+=($!)
}
end() { # all programs; each must say that it ended well
  local pid out ok=true
  for pid in "${began[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${began[@]}"; do wait "$pid" || true; done # Java's is 143 by rights
  began=()
  for out in "$@"; do [ "$(tail -n 1 "$out")" = ended ] || { echo "$(basename "$out") did not end well"; ok=false; }; done
  $ok
}

# Prints the numbers; fails with what is wrong. The topic is there before both sides start.
feature() { # feature NAME SERVERS PRODUCER CONSUMER FEATURE COUNT
  local name=$1 ns=${namesrv[$2]} producer=$3 consumer=$4 what=$5 count=$6 out=$work/$1 status=0
  local brief=("${short[@]}")
  (program "$(other java)" Feature "$what" create "$ns" "$name" "p-$name" "$count") >"$out.create" 2>"$out.create.err" \
    || { echo "cannot create the topic"; return 1; }
  "feature_$(case $what in lite | trace | admin | broadcast | retry) echo "$what" ;; *) echo simple ;; esac)" || status=1
  end "$out".{produce,consume} || status=1
  return "$status"
}
both() { # both sides of a feature, begun
  begin "$consumer" "$out.consume" "$what" consume "$name" "c-$name"
  # A question is not kept until somebody comes who answers.
  [ "$what" != request ] || within "$feature_limit_s" grep -qsx started "$out.consume" || { echo "no consumer"; return 1; }
  begin "$producer" "$out.produce" "$what" produce "$name" "p-$name"
}
feature_simple() {
  both
  if [ "$what" = request ]; then come replies 1 reply "$out.produce" || return 1; fi
  if [ "$what" = transaction ]; then
    # Twice is right where an answer came late.
    within "$feature_limit_s" has "$(expected '$1 % 3 == 2' | wc -l)" checked "$out.produce" || true
    same checked <(expected '$1 % 3 == 2') <(numbers checked "$out.produce" | uniq) || return 1
  fi
  come "$what" "${comes[$what]:-1}" got "$out.consume" || return 1
  case $what in
    ordered) in_order "$out.consume" || return 1 ;;
    delay | timer) on_time "$out.consume" || return 1 ;;
  esac
  echo "$(numbers got "$out.consume" | wc -l) of $count"
}
# Of each key the next message comes only when the one before is done; some had to come three times.
in_order() {
  awk '{ key = $2 % 8 }
    $1 == "failed" { failed[key] = $2; failures++ }
    $1 == "got" || $1 == "failed" {
      if ((key in stuck) && stuck[key] != $2) { print $2 " overtook " stuck[key]; exit 1 }
      if ((key in last) && $2 <= last[key]) { print $2 " after " last[key]; exit 1 }
    }
    $1 == "failed" { stuck[key] = $2 }
    $1 == "got" { delete stuck[key]; last[key] = $2 }
    END { print failures + 0 " suspensions," }' "$1" || return 1
  [ "$(numbers failed "$1" | wc -l)" -eq $((2 * $(expected '$1 % 40 == 7' | wc -l))) ] || { echo "suspended wrongly often"; return 1; }
}
# Never early. A timer's precision is a second; the rest is for a machine that is busy.
on_time() {
  awk '$1 == "got" { if ($6 < 0) { print $2 " is early by " -$6 " ms"; exit 1 } late[n++] = $6; if ($6 > max) max = $6 }
    END { if (max > 5000) { print max " ms late"; exit 1 } print "at most " max + 0 " ms late," }' "$1"
}
# Members of the other language, with the same ids, go on where a file of the machine says.
feature_broadcast() {
  both
  each_member "$out.consume" || return 1
  end "$out".{produce,consume} || return 1
  begin "$(other "$consumer")" "$out.heirs" broadcast consume "$name" "c-$name"
  within "$feature_limit_s" grep -qsx started "$out.heirs" || { echo "no heirs"; return 1; }
  begin "$producer" "$out.again" plain produce "$name" "p-$name"
  each_member "$out.heirs" || return 1
  echo "2 x $count, 2 x $count"
}
each_member() { # each_member FILE: both of them saw all, once
  local member
  within "$feature_limit_s" has $((2 * count)) got "$1" || true
  for member in 1 2; do
    grep " member $member$" "$1" >"$out.$member" || true
    come "member $member" 1 got "$out.$member" || return 1
  done
}
# Message i fails i mod 3 times, those that end in 9 always: after 3 repetitions they are dead letters, which the other
# language reads.
feature_retry() {
  local i times
  both
  for i in $(seq 0 $((count - 1))); do
    for times in $(seq 0 $([ $((i % 10)) = 9 ] && echo 3 || echo $((i % 3)))); do echo "$i $times"; done
  done | sort >"$out.tries"
  tried() { awk '$1 == "got" || $1 == "failed" { print $2, $4 }' "$out.consume" | sort; }
  all_tried() { [ "$(tried | wc -l)" -ge "$(wc -l <"$out.tries")" ]; }
  within "$feature_limit_s" all_tried || echo "too few tries"
  come retry "${comes[retry]}" got "$out.consume" || return 1
  same tries "$out.tries" <(tried) || return 1 # each knows which one it is
  begin "$(other "$consumer")" "$out.dead" plain consume "%DLQ%c-$name" "d-$name"
  come "dead letters" '$1 % 10 == 9' got "$out.dead" || return 1
  echo "$(numbers failed "$out.consume" | wc -l) failures, $(numbers got "$out.dead" | wc -l) dead letters of $count"
}
# One polls half and commits, the other goes on there, and goes back to the begin.
feature_lite() {
  local first
  begin "$producer" "$out.produce" plain produce "$name" "p-$name"
  within "$feature_limit_s" grep -qsx done "$out.produce" || { echo "not sent"; return 1; }
  begin "$producer" "$out.first" lite-first consume "$name" "c-$name"
  within "$feature_limit_s" grep -qsx done "$out.first" || { echo "first half not polled"; return 1; }
  end "$out".{produce,first} || return 1
  first=$(numbers got "$out.first" | wc -l)
  count=$((count - first)) begin "$consumer" "$out.consume" lite-rest consume "$name" "c-$name"
  come "both halves" 1 got "$out".{first,consume} || return 1
  come again 1 again "$out.consume" || return 1
  echo "$first + $((count - first)), $count again"
}
admin() { # admin COMMAND ARGS…: Java's mqadmin; prints what it prints
  (cd "$work" && program java org.apache.rocketmq.tools.command.MQAdminStartup "$@" -n "$ns") 2>>"$out.admin.err"
}
# Java's tool finds where a message was sent and consumed.
feature_trace() {
  local id
  both
  come trace 1 got "$out.consume" || return 1
  end "$out".{produce,consume} || return 1 # the last records go out
  id=$(awk '$1 == "sent" && $2 == 7 { print $4 }' "$out.produce")
  traced() { admin queryMsgTraceById -i "$id" >"$out.admin" && [ "$(records)" -ge 2 ]; }
  records() { grep -cE "^(Pub +p|Sub +c)-$name .* success" "$out.admin"; }
  within 15 traced || { echo "traces of $id: $(paste -sd ' ' "$out.admin")"; return 1; }
  echo "$(records) records of one of $count"
}
# A group with a member of each language, through Java's mqadmin; and what it says of single messages.
feature_admin() {
  local id at client clients
  begin java "$out.java" plain consume "$name" "c-$name"
  begin ours "$out.consume" plain consume "$name" "c-$name"
  within "$feature_limit_s" grep -qsx started "$out.java" && within "$feature_limit_s" grep -qsx started "$out.consume" \
    || { echo "no consumers"; return 1; }
  begin "$producer" "$out.produce" plain produce "$name" "p-$name"
  within "$feature_limit_s" grep -qsx done "$out.produce" || { echo "not sent"; return 1; }
  come first 1 got "$out".{java,consume} || return 1

  says() { # says PATTERN COMMAND ARGS…; again for a while: offsets are committed every 5 s, and the tool's patience is short
    local pattern=$1; shift
    said() { admin "$@" >"$out.$1" && grep -qzP -- "(?ms)$pattern" "$out.$1"; }
    within 30 said "$@" || { echo "$*: $(tail -n 3 "$out.$1" | paste -sd ' ')"; return 1; }
  }
  says '^Consume Diff Total: 0$' consumerProgress -g "c-$name" || return 1
  says ' RUST .* JAVA | JAVA .* RUST ' consumerConnection -g "c-$name" || return 1
  clients=$(awk '$3 == "RUST" || $3 == "JAVA" { print $1 }' "$out.consumerConnection")
  says '^2 .*^Same subscription .*^Rebalance OK$' consumerStatus -g "c-$name" || return 1
  read -r id at < <(awk '$1 == "sent" && $2 == 7 { print $4, $6 }' "$out.produce")
  says "^$id " queryMsgByKey -t "$name" -k k7 || return 1
  says "UNIQ_KEY=$id.*trackType=CONSUMED" queryMsgByUniqueKey -t "$name" -i "$id" || return 1
  for client in $clients; do # handles it once more, by order
    says 'consumeResult=CR_SUCCESS' queryMsgById -t "$name" -i "$at" -g "c-$name" -d "$client" || return 1
  done
  same "by order" <({ expected 1; echo 7; echo 7; } | sort) <(numbers got "$out".{java,consume}) || return 1
  says '(^java|^broker-a) +3 +0 ' resetOffsetByTime -g "c-$name" -t "$name" -s 0 || return 1
  within "$feature_limit_s" has $((2 * count + 2)) got "$out".{java,consume} || true
  same reset <({ expected 1; expected 1; echo 7; echo 7; } | sort) <(numbers got "$out".{java,consume}) || return 1
  echo "2 x $count"
}
