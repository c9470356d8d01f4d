#!/usr/bin/env bash
# Make sure MuJoCo can render without a display: EGL, OpenGL and Mesa's software driver (or a GPU's own EGL driver).
set -euo pipefail
packages="libegl1 libopengl0 libgl1-mesa-dri"

library() { # is the shared library $1 (a pattern) anywhere the loader looks?
    { ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null; } | grep -q "$1" && return 0
    compgen -G "/usr/lib/*/$1" >/dev/null || compgen -G "/usr/lib64/$1" >/dev/null || compgen -G "/usr/lib/$1" >/dev/null
}
driver() { # Mesa before 24 ships swrast_dri.so, later ones libgallium; NVIDIA brings its own
    library 'libgallium*' || library 'libEGL_nvidia*' ||
        compgen -G '/usr/lib/*/dri/swrast_dri.so' >/dev/null || compgen -G '/usr/lib*/dri/swrast_dri.so' >/dev/null
}
missing() {
    library libEGL.so.1 || printf 'libEGL.so.1 '
    library libOpenGL.so.0 || printf 'libOpenGL.so.0 '
    driver || printf "Mesa's software driver "
}

[ "$(uname -s)" = Linux ] || exit 0 # elsewhere MuJoCo uses the system's own OpenGL
lacking=$(missing)
lacking=${lacking% }
[ -n "$lacking" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "imagoal: rendering needs $lacking. Install your distribution's EGL, OpenGL (libglvnd) and Mesa drivers (Fedora: dnf install libglvnd-egl libglvnd-opengl mesa-dri-drivers)." >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "imagoal: rendering needs ${lacking}; run: sudo apt-get install -y $packages" >&2
    exit 1
fi
echo "imagoal: rendering needs ${lacking}; installing $packages with apt-get"
export DEBIAN_FRONTEND=noninteractive
apt-get install -y -qq --no-install-recommends $packages >/dev/null 2>&1 || {
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages >/dev/null
} || { echo "imagoal: apt-get could not install them (see above). Run: apt-get update && apt-get install -y $packages" >&2; exit 1; }
lacking=$(missing)
[ -z "$lacking" ] || { echo "imagoal: still missing after installing: $lacking" >&2; exit 1; }
