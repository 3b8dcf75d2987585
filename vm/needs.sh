# Read by vm/build and vm/boot: says which Debian packages are missing. Each need is COMMAND-OR-FILE=PACKAGE.
need() {
    local missing=() each what
    for each in "$@"; do
        what=${each%%=*}
        if [[ $what = /* ]]; then [ -e "$what" ] || missing+=("${each#*=}"); continue; fi
        command -v "$what" >/dev/null || [ -x "/usr/sbin/$what" ] || [ -x "/sbin/$what" ] || missing+=("${each#*=}")
    done
    [ ${#missing[@]} -eq 0 ] && return
    echo "$0 needs Debian packages that are not installed:" >&2
    echo "  sudo apt install --no-install-recommends $(printf '%s\n' "${missing[@]}" | sort -u | tr '\n' ' ')" >&2
    exit 1
}

fail() {
    echo "$0: $*" >&2
    exit 1
}
