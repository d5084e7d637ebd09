#!/usr/bin/env bash
# A tour with real clients: a real text through every codec, read back by another client and compared by SHA-256; then again
# with a kill -9 in the middle of each codec's turn. tour.sh [debug|release] chooses the broker's build.
set -euo pipefail
cd "$(dirname "$0")/.."
codecs=(none gzip snappy lz4 zstd)
broker=$(scripts/target-directory)/${1:-debug}/ottla-broker
python=$PWD/.venv/bin/python
clients=$PWD/integration-tests/clients
work=$(mktemp -d "${TMPDIR:-/tmp}/ottla-tour.XXXXXX")
pid=
writer=

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
port=$(free_port)
http=$(free_port)

leave() {
    local status=$?
    [[ -z $writer ]] || kill "$writer" 2>/dev/null || true
    [[ -z $pid ]] || kill -9 "$pid" 2>/dev/null || true
    if ((status)); then
        echo "the tour failed; the end of the broker's log:"
        tail -n 50 "$work/broker.log" || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap leave EXIT

start() {
    "$broker" --override "listeners=PLAINTEXT://127.0.0.1:$port" --override "log.dirs=$work/data" \
        --override "ottla.http.listener=127.0.0.1:$http" >>"$work/broker.log" 2>&1 &
    pid=$!
    wait_for 30 "a broker that is ready" answers
}

answers() {
    kcat -b "127.0.0.1:$port" -L -m 1 >/dev/null 2>&1
}

# wait_for SECONDS WHAT COMMAND...
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        if ((SECONDS > deadline)); then
            echo "waited in vain for $what"
            exit 1
        fi
        read -rt 0.02 <> <(:) || true
    done
}

fail() {
    echo "$1"
    exit 1
}

sha() {
    sha256sum | cut -d ' ' -f 1
}

# The text: sources of the libraries that the build has fetched, without blank lines (an empty line is no record to kcat).
text=$work/text
find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -name '*.rs' -print0 | sort -z | xargs -0 cat \
    | LC_ALL=C grep -av -e '^$' -e $'\r' | LC_ALL=C awk 'length < 10000' | head -n 150000 >"$text" || true
lines=$(wc -l <"$text")
((lines >= 100000)) || fail "only $lines lines of text"
wanted=$(sha <"$text")
echo "the text: $lines lines, $(wc -c <"$text") bytes, SHA-256 $wanted"

start
echo "round 1: kcat writes, aiokafka reads"
for codec in "${codecs[@]}"; do
    kcat -b "127.0.0.1:$port" -P -t "tour-$codec" -p 0 -z "$codec" -X acks=all -l "$text"
    got=$("$python" "$clients/tour_read.py" "127.0.0.1:$port" "tour-$codec" "$lines" | sha)
    [[ $got == "$wanted" ]] || fail "$codec: SHA-256 $got"
    echo "  $codec: equal"
done

echo "round 2: confluent-kafka writes, kill -9 in the middle, kcat reads"
killed_after_some() {
    local acknowledged
    acknowledged=$(wc -c <"$work/acknowledged")
    ((acknowledged > lines / 4)) || ! kill -0 "$writer" 2>/dev/null
}
for codec in "${codecs[@]}"; do
    rm -f "$work/killed"
    : >"$work/acknowledged"
    "$python" "$clients/tour_write.py" "127.0.0.1:$port" "again-$codec" "$codec" "$text" "$work/acknowledged" "$work/killed" &
    writer=$!
    wait_for 120 "the first acknowledged quarter" killed_after_some
    kill -9 "$pid"
    wait "$pid" 2>/dev/null || true
    touch "$work/killed"
    before=$(wc -c <"$work/acknowledged")
    ((before > 0 && before < lines)) || fail "$codec: $before of $lines lines were acknowledged at the kill: not in the middle"
    start
    wait "$writer" || fail "$codec: the writer failed"
    writer=
    after=$(wc -c <"$work/acknowledged")
    ((after == lines)) || fail "$codec: $after of $lines lines acknowledged"
    got=$(kcat -b "127.0.0.1:$port" -C -t "again-$codec" -p 0 -o beginning -e -q | sha)
    [[ $got == "$wanted" ]] || fail "$codec: SHA-256 $got"
    echo "  $codec: killed after $before acknowledged lines; all $after there exactly once and in order"
done

kill "$pid"
wait "$pid" || fail "the broker stopped with $?"
pid=
echo "the tour holds: $lines lines in ${#codecs[@]} codecs, twice, with ${#codecs[@]} kills"
