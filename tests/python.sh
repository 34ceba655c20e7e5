# Read in by the tests that need Python: what they say when they fail, and Python with packages.
#
# Packages take up to 800 MB and are kept for all checkouts: in $CHELA_TEST_CACHE, ~/.cache/chela-tests if it is not set.
# shellcheck shell=bash
test_cache=${CHELA_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/chela-tests}

fail() { echo "$0: $1" >&2; exit 1; }
# Whoever has no Python has no use for these: told apart from a failure, and said.
missing() { echo "$0: $1" >&2; exit 3; }

# The program that is tested; its place is $CHELA.
needs_chela() {
    CHELA=${CHELA:-$PWD/target/release/chela}
    [ -x "$CHELA" ] || fail "$CHELA is not there: cargo build --release, or set CHELA"
}

# python_with VERSION NAME PACKAGE...: sets $python to one of this version or a newer one that has these packages and
# what they need. What stands before a `--` alone is installed without what it needs.
python_with() {
    local version=$1 place=$test_cache/$2 alone=()
    shift 2
    if [ "${2:-}" = -- ]; then
        alone=("$1")
        shift 2
    fi
    python3 -c "import sys; sys.exit(sys.version_info < (${version/./, }))" 2>/dev/null ||
        missing "Python $version or newer is missing: apt-get install python3 python3-venv (or your system's)"
    mkdir -p "$place"
    python=$place/python/bin/python
    # Another checkout may be installing the same.
    exec 9>"$place/lock"
    flock 9
    if [ "$(cat "$place/installed" 2>/dev/null)" != "$* ${alone[*]}" ] || ! "$python" -c '' 2>/dev/null; then
        rm -rf "$place/python" "$place/installed"
        python3 -m venv "$place/python" || missing "venv is missing: apt-get install python3-venv (or your system's)"
        local pip=(timeout 900 "$python" -m pip install --quiet --disable-pip-version-check)
        "${pip[@]}" "$@" || missing "$* cannot be installed from PyPI"
        [ ${#alone[@]} = 0 ] || "${pip[@]}" --no-deps "${alone[@]}" || missing "${alone[*]} cannot be installed from PyPI"
        echo "$* ${alone[*]}" >"$place/installed"
    fi
    exec 9>&-
}
