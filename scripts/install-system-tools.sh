#!/bin/sh
# Installs the named programs where they are missing: as root or through sudo with apt, or with brew.
# Where it may not, it says exactly what to install and fails.
set -eu
missing=""
for tool in "$@"; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
[ -z "$missing" ] && exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    else
        as_root="no"
    fi
fi

# $missing is a list of plain words from the Makefile; splitting it is meant.
if command -v apt-get >/dev/null 2>&1 && [ "$as_root" != "no" ]; then
    echo "installing$missing with apt-get"
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
elif command -v brew >/dev/null 2>&1; then
    echo "installing$missing with brew"
    brew install --quiet $missing
else
    echo "missing:$missing" >&2
    echo "install with your system's package manager, for example: sudo apt-get install$missing" >&2
    exit 1
fi
