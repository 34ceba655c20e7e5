#!/usr/bin/env bash
# Tests the sdks for Python and JavaScript and their lessons: without a host, as components, and in a running host.
#
#   tests/languages.sh            needs python3 (3.11), node (20) with npm, and the program in $CHELA
#
# Ends with 3 where Python or Node is missing, with 1 where something fails.
# What is missing of their tools is installed into target/languages, where also everything is built: a second run
# installs and builds what has changed. CHELA is target/release/chela unless it is set.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
cache=$root/target/languages
export CHELA=${CHELA:-$root/target/release/chela}
export BUILT=$cache/plugins
started=$SECONDS
step() { printf '== languages: %s (%ds)\n' "$1" "$((SECONDS - started))"; }
fail() { echo "tests/languages.sh: $1" >&2; exit 1; }
# Whoever only writes Rust has no use for these: told apart from a failure, and said.
missing() { echo "tests/languages.sh: $1" >&2; exit 3; }

step "tools"
[ -x "$CHELA" ] || fail "$CHELA is not there: cargo build --release, or set CHELA"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    missing "Python 3.11 or newer is missing: apt-get install python3 python3-venv (or your system's)"
node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' 2>/dev/null ||
    missing "Node.js 20 or newer is missing: https://nodejs.org"
command -v npm >/dev/null || missing "npm is missing; it comes with Node.js"

# installed NAME WHAT...: true if exactly that was installed there before; `now` remembers it.
installed() { [ "$(cat "$cache/$1.installed" 2>/dev/null)" = "${*:2}" ]; }
now() { echo "${*:2}" >"$cache/$1.installed"; }
mkdir -p "$BUILT" "$cache/js"

from_pypi=(componentize-py==0.25.0 mypy==2.4.1)
if ! installed python "${from_pypi[@]}"; then
    python3 -m venv "$cache/python" || missing "venv is missing: apt-get install python3-venv (or your system's)"
    "$cache/python/bin/pip" install --quiet --disable-pip-version-check "${from_pypi[@]}"
    now python "${from_pypi[@]}"
fi
from_npm=(@bytecodealliance/componentize-js@0.23.0 @bytecodealliance/preview2-shim@0.17.9 esbuild@0.28.2 smol-toml@1.9.1
    typescript@5.9.3)
if ! installed js "${from_npm[@]}"; then
    echo '{ "private": true }' >"$cache/js/package.json"
    npm install --prefix "$cache/js" --silent --no-audit --no-fund "${from_npm[@]}" "@chela/sdk@file:$root/sdk/js"
    now js "${from_npm[@]}"
fi
python=$cache/python/bin/python
tsc=$cache/js/node_modules/.bin/tsc
export PYTHONPATH=$root/sdk/python PYTHONDONTWRITEBYTECODE=1
ln -sfn "$cache/js/node_modules" "$BUILT/node_modules" # where a lesson finds the sdk

python_lessons=(python-router python-agent python-channel)
js_lessons=(js-router js-agent js-channel)
for folder in "${python_lessons[@]/#/examples/}" "${js_lessons[@]/#/examples/}" tests/languages/everything-*; do
    lesson=${folder##*/}
    mkdir -p "$BUILT/$lesson"
    for file in "$folder"/*; do
        [ -f "$file" ] || continue
        case "$file" in *.wasm) ;; *) cp -pu "$file" "$BUILT/$lesson/" ;; esac
    done
done

"$python" tests/languages/guide.py "$BUILT"

step "without a host"
"$python" -m unittest discover --start-directory sdk/python/tests
"$python" -m mypy --strict --no-warn-return-any --exclude component --cache-dir "$cache/mypy" sdk/python/chela_sdk
(cd sdk/js && node --test --test-reporter=dot)
"$tsc" --project sdk/js
for lesson in "${python_lessons[@]}"; do
    (cd "$BUILT/$lesson" && "$python" -m unittest --quiet && "$python" -m mypy --strict --no-warn-return-any \
        --allow-any-generics --cache-dir "$cache/mypy" plugin.py test_plugin.py)
done
for lesson in "${js_lessons[@]}"; do
    (cd "$BUILT/$lesson" && node --test --test-reporter=dot)
    "$tsc" --noEmit --checkJs --strict false --module nodenext --target es2023 "$BUILT/$lesson/plugin.js"
done

step "components"
# newer WASM SOURCES...: true if something of the sources is newer, or the component is not there.
newer() { [ ! -e "$1" ] || [ -n "$(find "${@:2}" -newer "$1" -type f ! -name '*.pyc' -print -quit)" ]; }
build() {
    local lesson=$1 sdk=$2 sources
    shift 2
    sources=$(find "$BUILT/$lesson" -type f ! -name '*.wasm')
    # shellcheck disable=SC2086 # names of the lessons' files have no spaces
    if newer "$BUILT/$lesson/plugin.wasm" $sources "$sdk" "$root/wit"; then
        "$@" "$BUILT/$lesson"
        rm -rf "$cache/hosts" # a version that is new to a host would be on trial there
    fi
}
for lesson in "${python_lessons[@]}" guide-python everything-python; do
    build "$lesson" sdk/python/chela_sdk "$python" -m chela_sdk.build
done
for lesson in "${js_lessons[@]}" guide-js everything-js; do build "$lesson" sdk/js node sdk/js/build/main.js; done

step "in a host"
"$python" tests/languages/lessons.py

step "from nothing to a live router"
"$python" tests/languages/author.py "$cache/author"

step "done"
