# What follows is the same for every run: POSIX sh, with grep, find and the like of any Linux; nothing of magickbox.
marks=$work/slurm
[ -d "$marks" ] && [ -d "$work/OUTPUT" ] || exit 71  # this node does not see the shared folder
mkdir "$marks/taken" 2>/dev/null || { [ -d "$marks/taken" ] && exit 72; exit 73; }  # a second start, or no right to write
node=${SLURMD_NODENAME:-$(uname -n)}
put() { printf '%s\n' "$2" > "$marks/.$1" && mv "$marks/.$1" "$marks/$1"; }
put begun "${SLURM_JOB_ID:-0} $node" || exit 73
[ -d "$processor" ] || { put end "125 unseen 0 0 $node"; exit 73; }
if [ -n "$required" ] && [ -z "$sandboxed" ]; then
    put end "125 unshielded 0 0 $node"
    exit 73
fi
scratch=$(mktemp -d "${TMPDIR:-/tmp}/mb-XXXXXX") || { put end "125 trouble 0 0 $node"; exit 73; }
status=$scratch/status
mkfifo "$scratch/out" "$scratch/rest"
cd "$work" || exit 71

# The log: its beginning as it comes, and of what is too much only the end.
live() { if command -v stdbuf > /dev/null; then exec stdbuf -o0 head -c "$most"; else exec head -c "$most"; fi; }
keep() {
    trap '' TERM  # it ends when nobody writes any more
    (live >> "$marks/log")
    tail -c 8192 < "$scratch/rest" > "$marks/log.end" &
    tee "$scratch/rest" | wc -c > "$marks/log.more"
    wait
    : > "$scratch/kept"
}

# Processes of the run are found by what stands in their environment, wherever they are in the tree.
tell() {
    if [ -n "$container" ]; then
        contained kill --signal "$1" "$name" > /dev/null 2>&1
        return
    fi
    for each in $(grep -lzxsF -e "MAGICKBOX_RUN=$name" /proc/[0-9]*/environ); do
        process=${each#/proc/}
        grep -qzxsF -e "MAGICKBOX_BOX=$box" "$each" && kill -s "$1" "${process%/environ}" 2> /dev/null
    done
}
wind_up() {
    : > "$marks/$1"
    tell TERM
    nap "$grace"
    tell KILL
    kill -s KILL "$run" "-$run" 2> /dev/null
}
nap() {
    sleep "$1" &
    trap 'kill $! 2> /dev/null; exit' TERM
    wait $!
    trap - TERM
}
clock() {
    nap "$limit"
    wind_up clock
}
pulse() { while :; do nap "$beat"; : > "$marks/alive"; done; }

if ! bring > /dev/null 2>> "$marks/log"; then
    put end "125 noimage 0 0 $node"
    rm -rf "$scratch"
    exit 73
fi
keep < "$scratch/out" 2> /dev/null &
# shellcheck disable=SC2154  # set above
command_line > "$scratch/out" 2>&1 < /dev/null &
run=$!
clock > /dev/null 2>&1 &
clock=$!
pulse > /dev/null 2>&1 &
pulse=$!
ender=
trap '[ -n "$ender" ] || { wind_up stop > /dev/null 2>&1 & ender=$!; }' TERM
while :; do
    wait "$run"
    code=$?
    kill -s 0 "$run" 2> /dev/null || break
done
case $code in 137 | 143) [ -e "$marks/clock" ] || sleep 1 ;; esac  # Slurm signals all of a job, one after the other
kill "$clock" $ender 2> /dev/null
tell KILL
kill -s KILL "-$run" 2> /dev/null
if [ -n "$container" ]; then contained rm --force --volumes "$name" > /dev/null 2>&1; fi
# The sandbox's first process is gone when all others in it are.
first=$(sed -n 's/.*"child-pid": *\([0-9]*\).*/\1/p' "$status" 2> /dev/null | head -n 1)
inside() { [ -n "$first" ] && grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$first/status"; }
tries=0
while { [ ! -e "$scratch/kept" ] || inside; } && [ "$tries" -lt 20 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
began=1
if [ -n "$sandboxed" ] && ! grep -qs exit-code "$status"; then began=0; fi
files=$(find "$work/OUTPUT" -mindepth 1 -print0 2> /dev/null | tr -dc '\000' | wc -c)
sync -f "$work/OUTPUT" 2> /dev/null || sync
kill "$pulse" 2> /dev/null
why=exit
[ -e "$marks/clock" ] && why=clock
[ -n "$ender" ] && why=stop
rm -rf "$scratch"
put end "$code $why $began $((files)) $node" || exit 73
exit "$code"
