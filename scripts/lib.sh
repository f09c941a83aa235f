# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the shell scripts here share; sourced, never run.

set -euo pipefail

root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say()
{
	printf '== %s\n' "$*"
}

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# The comment block at the top of a script is its help.
usage()
{
	sed -n '3,/^[^#]/{s/^# \{0,1\}//p}' "$0"
}

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo -- "$@"
	else
		die "needs root (or sudo) for: $*"
	fi
}
