# shellcheck shell=bash disable=SC2034
# What ./demo and ./check do before their work: install the Debian packages that are missing, configure, build. They source this file; a second
# call finds everything done and takes a fraction of a second.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build="$root/build"

build_packages=(g++ meson ninja-build pkg-config cmake ccache libeigen3-dev libfmt-dev doctest-dev nlohmann-json3-dev libzip-dev liblapacke-dev
  libopenblas-dev libsleef-dev libsundials-dev libcli11-dev libopenmpi-dev openmpi-bin zlib1g-dev gnuplot-nox)

say() { printf '%s\n' "$*" >&2; }

as_root() { if ((EUID == 0)); then "$@"; else sudo "$@"; fi; }

# Nothing that is installed is removed for it, unless may_remove says so: apt-get refuses instead.
apt_install() {
  local keep=--no-remove
  if [[ ${may_remove:-no} == yes ]]; then keep=--yes; fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes "$keep" --no-install-recommends "$@" >&2
}

install_missing() {
  if ! command -v dpkg-query >/dev/null; then
    say "This is not Debian: install what corresponds to: $*"
    return 0
  fi
  local package missing=()
  for package in "$@"; do
    if [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true) != installed ]]; then
      missing+=("$package")
    fi
  done
  if ((${#missing[@]} == 0)); then return 0; fi
  if ((EUID != 0)) && ! command -v sudo >/dev/null; then
    say "Debian packages are missing, and there is no sudo to install them with. As root: apt-get install ${missing[*]}"
    return 1
  fi
  say "Installing Debian packages: ${missing[*]}"
  # The package lists are fetched only if they are absent, or too old for the files they name still to be there.
  if ! apt-get install --simulate --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
    as_root apt-get update >&2
  fi
  apt_install "${missing[@]}" || { as_root apt-get update >&2 && apt_install "${missing[@]}"; }
}

# Builds the targets named, or everything; says nothing if there is nothing to do.
build_targets() {
  if [[ ! -f $build/build.ninja ]]; then
    meson setup "$build" "$root" --buildtype=release "-Db_pch=${LINNET_PCH:-false}" >&2
  fi
  local todo
  todo=$(ninja -C "$build" -n "$@")
  if [[ $todo != *'no work to do'* ]]; then
    say "Building in $build (some minutes the first time)"
    ninja -C "$build" "$@" >&2
  fi
}
