#!/usr/bin/env bash
# Tests the sdks for Python and JavaScript and their lessons: without a host, as components, and in a running host.
#
#   tests/languages.sh            needs python3 (3.11), node (20) with npm, and the program in $CHELA
#
# Ends with 3 where Python or Node is missing, with 1 where something fails.
# What is missing of Node's tools is installed into target/languages, and built is what has changed. CHELA is
# target/release/chela unless it is set.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/python.sh

root=$PWD
cache=$root/target/languages
export BUILT=$cache/plugins
started=$SECONDS
step() { printf '== languages: %s (%ds)\n' "$1" "$((SECONDS - started))"; }

step "tools"
needs_chela
export CHELA
node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' 2>/dev/null ||
    missing "Node.js 20 or newer is missing: https://nodejs.org"
command -v npm >/dev/null || missing "npm is missing; it comes with Node.js"

# installed NAME WHAT...: true if exactly that was installed there before; `now` remembers it.
installed() { [ "$(cat "$cache/$1.installed" 2>/dev/null)" = "${*:2}" ]; }
now() { echo "${*:2}" >"$cache/$1.installed"; }
mkdir -p "$BUILT" "$cache/js"

from_pypi=(componentize-py==0.25.0 mypy==2.4.1)
python_with 3.11 languages "${from_pypi[@]}"
from_npm=(@bytecodealliance/componentize-js@0.23.0 @bytecodealliance/preview2-shim@0.17.9 esbuild@0.28.2 smol-toml@1.9.1
    typescript@5.9.3)
if ! installed js "${from_npm[@]}"; then
    echo '{ "private": true }' >"$cache/js/package.json"
    npm install --prefix "$cache/js" --silent --no-audit --no-fund "${from_npm[@]}" "@chela/sdk@file:$root/sdk/js"
    now js "${from_npm[@]}"
fi
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
# A component takes a minute, and is the same for the same files and tools: it is kept for all checkouts.
kept=$test_cache/components
mkdir -p "$kept"
find "$kept" -type f -mtime +30 -delete
# digest FOLDER...: of the files in them, by their names there.
digest() {
    local folder
    for folder in "$@"; do
        (cd "$folder" && find . -type f ! -name '*.wasm' ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum)
    done
}
build() {
    local lesson=$1 sdk=$2 of component=$BUILT/$1/plugin.wasm
    shift 2
    of=$({ echo "${from_pypi[*]} ${from_npm[*]}"; digest "$BUILT/$lesson" "$sdk" wit; } | sha256sum | cut -c 1-32)
    if [ ! -e "$kept/$of" ]; then
        "$@" "$BUILT/$lesson"
        cp "$component" "$kept/$of.new"
        mv "$kept/$of.new" "$kept/$of"
    elif cmp -s "$kept/$of" "$component"; then
        return
    else
        touch "$kept/$of"
        cp "$kept/$of" "$component"
    fi
    rm -rf "$cache/hosts" # a version that is new to a host would be on trial there
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
