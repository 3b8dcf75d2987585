#!/bin/sh
# Copies INPUT to OUTPUT unchanged. The shortest useful processor: copy this folder to begin your own.
#
# Called as:   identity.sh INPUT OUTPUT     (two folders, absolute paths)
# Exit code:   0 = worked; anything else = failed, and the last line printed here becomes the message.

set -eu # stop at the first command that fails, and at a misspelt variable

if [ "$#" -ne 2 ]; then
    echo "usage: identity.sh INPUT OUTPUT" >&2
    exit 2
fi
input=$1
output=$2

# The work. "/." copies what is in the folder, not the folder itself; -L turns links into plain files.
mkdir -p "$output"
cp -RL "$input/." "$output/"

# What we received is read-only, and so are the copies; the box must be able to tidy them up one day.
chmod -R u+w "$output"

# Say what was done. MAGICKBOX_PROC is where the box expects it; without it (a try by hand) use OUTPUT.
count=$(find "$input" -type f -o -type l | wc -l | tr -d ' ')
printf '[{ "success": "success", "message": "copied %s files unchanged" }]\n' "$count" \
    >"${MAGICKBOX_PROC:-$output/proc.json}"
echo "copied $count files"
