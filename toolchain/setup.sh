#!/usr/bin/env bash
# Sets up a checkout: the Debian packages of apt.txt, then .venv with the versions pinned in constraints.txt.
#
#   toolchain/setup.sh run|test     "run" for the tool itself, "test" for the tests too
#
# PYTHON=/path/to/python3 chooses the interpreter. A second call with nothing to do takes some milliseconds: the venv's
# stamp holds a hash of all that went into it. Nothing outside the checkout is touched but Debian's packages.
set -euo pipefail

stage=${1:-run}
case $stage in run | test) ;; *)
    echo "usage: ${BASH_SOURCE[0]} run|test" >&2
    exit 2
    ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
apt_list=toolchain/apt.txt
venv=.venv
stamp=$venv/.setup-stamp
# tensorflow 2.21, pinned in constraints.txt, has wheels for these.
oldest=11
newest=13

fail() {
    echo "setup: $*" >&2
    exit 1
}

# The hash of everything that .venv is made from for the stage $1. The path counts: a venv's scripts hold it.
key() {
    { echo "$1"; pwd -P; cat pyproject.toml constraints.txt toolchain/setup.sh "$apt_list"; } | sha256sum | cut -d ' ' -f 1
}

# Whether .venv has what the stage needs; one made for the tests has what the tool needs too.
is_set_up() {
    local made
    made=$(cat "$stamp" 2>/dev/null) || return 1
    [[ $made == "$(key test)" || ($stage == run && $made == "$(key run)") ]]
}

is_supported() {
    "$1" -c "import sys; sys.exit(not (3, $oldest) <= sys.version_info[:2] <= (3, $newest))" >/dev/null 2>&1
}

# Prints the interpreter that makes the venv.
find_python() {
    local name seen
    for name in ${PYTHON:-python3.11 python3 python3.12 python3.13 /usr/bin/python3}; do
        if is_supported "$name"; then
            echo "$name"
            return
        fi
    done
    name=${PYTHON:-python3}
    seen=$("$name" -c 'import platform; print("is", platform.python_version())' 2>/dev/null) || seen="is no Python"
    fail "needs Python 3.$oldest to 3.$newest, but $name ${seen:-is no Python}. On Debian 12: apt-get install python3" \
        "python3-venv; or name another: make setup PYTHON=/path/to/python3.11"
}

# Whether .venv was made here, to the end, by a supported Python. Its packages may still be old.
venv_is_usable() {
    [[ $(cat "$venv/.setup-root" 2>/dev/null) == "$(pwd -P)" ]] && is_supported "$venv/bin/python"
}

# Whether the probe $1 of apt.txt finds its package; $2 is the Python that makes the venv.
has() {
    local what=${1#*:}
    case $1 in
    cmd:*) command -v "$what" >/dev/null ;;
    file:*) [[ -e $what ]] ;;
    py:*) venv_is_usable || "$2" -c "import $what" >/dev/null 2>&1 ;;
    *) fail "$apt_list: unknown probe $1" ;;
    esac
}

# Prints the packages that the stage needs and that are missing.
missing_packages() {
    local package probe needed_for _
    while read -r package probe needed_for _; do
        [[ -z $package || $package == \#* ]] && continue
        [[ $needed_for == test && $stage == run ]] && continue
        has "$probe" "$1" || echo "$package"
    done <"$apt_list"
}

install_packages() {
    local missing
    missing=$(missing_packages "$1" | xargs)
    [[ -z $missing ]] && return
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        fail "missing: $missing. Install with: sudo apt-get install -y --no-install-recommends $missing"
    fi
    echo "setup: apt-get install $missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    local options=(-qq -o Acquire::Retries=3 -o Dpkg::Use-Pty=0)
    # shellcheck disable=SC2086 # a list of words
    { apt-get "${options[@]}" update && apt-get "${options[@]}" install -y --no-install-recommends $missing; } \
        </dev/null >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "apt-get could not install: $missing"; }
    missing=$(missing_packages "$1" | xargs)
    [[ -z $missing ]] || fail "still missing after apt-get install: $missing (is the Python that makes .venv Debian's?)"
}

make_venv() {
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check install -qq --constraint constraints.txt)
    echo "setup: making $venv with the versions of constraints.txt (about 3 GB; minutes the first time)" >&2
    rm -f "$stamp"
    if ! venv_is_usable; then
        rm -rf "$venv"
        "$1" -m venv "$venv" >&2 || fail "$1 -m venv $venv failed"
        pwd -P >"$venv/.setup-root"
    fi
    # The build tools are pinned too, so they are installed first, and builds use them instead of fetching newer ones.
    "${pip[@]}" pip setuptools wheel hatchling editables || fail "pip could not install the build tools"
    # Readers of other frameworks (torch alone is 200 MB to fetch) are for those who have such files, and for the tests.
    local extras=dev
    [[ $stage == run ]] || extras=cluster,dev,sklearn,torch
    "${pip[@]}" --no-build-isolation --editable ".[$extras]" || fail "pip could not install the pinned packages"
    key "$stage" >"$stamp"
}

# Two targets of one `make -j`, or two terminals: one at a time.
exec 9<"$apt_list"
flock 9
python=$venv/bin/python
if [[ ! -x $python ]] || ! is_set_up; then
    python=$(find_python)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install_packages "$python"
is_set_up || make_venv "$python"
