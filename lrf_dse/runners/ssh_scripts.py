"""The scripts that run on the board, in POSIX shell (dash, busybox, bash), and how they are quoted.

A script is constant text; every name and number reaches it as an argument, quoted once for the login's shell.
Written without backslashes and ends of lines, which some login shells treat in single quotes too. Each begins by
printing $0, a word that the caller chose: what a login's start-up files print comes before it and is dropped.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_START = 'echo "$0"; export LC_ALL=C; '

INSPECT = _START + (
    # dir name prefix... ; standard input is the program of toolchain/board/machine.c
    'dir=$1; file=$1/$2; shift 2; trap \'rm -f "$file"\' EXIT; trap "exit 70" HUP INT PIPE TERM; '
    'mkdir -p "$dir" && cat >"$file" && chmod 700 "$file" || exit 70; '
    'm=$(uname -m); echo "@uname $m $(uname -r)"; '
    "echo @cpuinfo; cat /proc/cpuinfo; echo @meminfo; cat /proc/meminfo; "
    'echo @df; df -Pk "$dir"; echo @status; cat /proc/self/status; '
    'echo @tools; for t in tar taskset sha256sum; do command -v "$t" >/dev/null && echo "$t"; done; '
    # Never start a foreign program bare: a shell would take it for a script of its own.
    'echo @probe; if [ $# -gt 0 ] || [ "$m" = riscv64 ]; then "$@" "$file"; c=$?; echo; echo "@code $c"; fi; '
    "echo; echo @end"
)
"""Prints facts in sections "@name", and leaves nothing behind."""

UPLOAD = _START + (
    # dir name files ; standard input is a tar whose last member is "complete"
    'd=$1/$2; trap \'rm -rf "$d"\' EXIT; trap "exit 70" HUP INT PIPE TERM; '
    'mkdir -p "$1" && mkdir "$d" "$d/out" && tar -xof - -C "$d" && [ -e "$d/complete" ] || exit 70; '
    "trap - EXIT; echo done"
)
"""Makes the folder dir/name with files/ and an empty out/; on any trouble there is no folder."""

_CONDITIONS = (
    # $1: a core. Frequency in kHz, the hottest zone in thousandths of a degree, load of the last minute; 0 if unknown.
    "now() { f=0; t=0; l=0; "
    "read f </sys/devices/system/cpu/cpu$1/cpufreq/scaling_cur_freq || f=0; "
    "for z in /sys/class/thermal/thermal_zone*/temp; do v=0; read v <$z && [ $v -gt $t ] && t=$v; done; "
    'read l v </proc/loadavg || l=0; echo "$f $t $l"; } 2>/dev/null; '
)

RUN = _START + (
    # dir name core limit_s program... ; standard input stays open as long as somebody waits for the answer
    "n=$2; core=$3; limit=$4; " + _CONDITIONS + 'cd "$1/$2/out" && rm -rf ./* || exit 70; shift 4; '
    "exec 3<&0; before=$(now $core); "
    '(ulimit -t $limit; exec "$@") </dev/null >/dev/null 3<&- & p=$!; '
    # Standard input ends when the connection is gone: then nobody wants the result, and nobody else cleans up. First
    # the folder: once the program is dead, the shell below goes on and ends this one.
    '(cat <&3 >/dev/null; cd ../..; rm -rf "$n"; kill -9 $p) >/dev/null 2>&1 & w=$!; exec 3<&-; '
    "wait $p; code=$?; kill $w; "
    'echo "code $code"; echo "before $before"; echo "after $(now $core)"; echo tar; tar -cf - . || exit 70'
)
"""Runs one program in dir/name/out; prints its exit code, the conditions around it, and a tar of what it wrote."""

CHECK = _START + 'cd "$1/$2/files" && sha256sum -c ../sums >&2 && echo done || exit 70'
"""Compares what arrived with the sums in dir/name/sums; says on standard error how each file fared."""

PUBLISH = _START + (
    # dir name bundle ; a rename each, the old bundle put back if the second fails
    'cd "$1" || exit 70; if [ -e "$3" ] || [ -L "$3" ]; then mv "$3" "$2/old" || exit 70; fi; '
    'if mv "$2/files" "$3"; then echo done; '
    'else [ -e "$2/old" ] && mv "$2/old" "$3"; exit 70; fi'
)
"""Moves dir/name/files to dir/bundle."""

REMOVE = _START + 'rm -rf "$1/$2" && echo done'


def remote_command(script: str, marker: str, arguments: Sequence[str]) -> str:
    """The command line for the login's shell: sh -c SCRIPT MARKER ARGUMENT..., every word quoted."""
    # exec: no shell of the login stays between ssh and the script, which the end of the connection then reaches.
    return shlex.join(["exec", "sh", "-c", script, marker, *arguments])
