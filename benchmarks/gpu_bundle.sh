#!/usr/bin/env bash
# Make one folder with all that benchmarks/gpu.py needs on a machine that can download nothing.
#
#     benchmarks/gpu_bundle.sh OUTPUT CAPTURE
#
# OUTPUT gets wheels (benchmarks/gpu_wheels.txt; for x86-64 Linux and Python 3.12), this package's metadata, the commit,
# and CAPTURE, in the layout of Nerfies (`page4d synth` makes one), at half its size. Run it again after a change of the
# code; wheels that are there are kept. What an earlier run on such a machine brought back may be put beside them:
# csrc.so (gsplat's compiled kernels) and results.json (its figures, which count at the same commit).
#
# PYTHON (python3) needs pip, setuptools 77 or later, and Pillow. LIMIT (64) is how many MiB the folder and the
# checkout, without what git ignores, may have together.
set -euo pipefail

if [ $# -ne 2 ]; then
    echo "usage: $0 OUTPUT CAPTURE" >&2
    exit 2
fi
output=$(realpath -m "$1")
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
capture=$2
python=${PYTHON:-python3}
limit=${LIMIT:-64}

if [ -e "$output" ] && [ ! -e "$output/commit" ] && [ -n "$(ls -A "$output")" ]; then
    echo "gpu_bundle: $output holds something else than a bundle; name another folder." >&2
    exit 1
fi
if [ ! -d "$capture" ]; then
    echo "gpu_bundle: there is no capture $capture." >&2
    exit 1
fi
mkdir -p "$output/wheels"
git -C "$repository" describe --always --dirty '--exclude=*' --abbrev=12 >"$output/commit"

# The entry points by which nerfstudio finds the methods; the package itself runs from the checkout.
rm -rf "$output"/*.dist-info
(cd "$repository" && "$python" -c "
import sys
try:
    import setuptools.build_meta
    fit = int(setuptools.__version__.split('.')[0]) >= 77
except ImportError:
    fit = False
if not fit:
    sys.exit(f'gpu_bundle: {sys.executable} needs setuptools 77 or later: pip install --upgrade setuptools.')
setuptools.build_meta.prepare_metadata_for_build_wheel(sys.argv[1])" "$output" >/dev/null)
rm -rf "$output"/*.egg-info

platforms=()
for tag in manylinux1 manylinux2014 manylinux_2_17 manylinux_2_24 manylinux_2_27 manylinux_2_28; do
    platforms+=(--platform "${tag}_x86_64")
done
rm -rf "$output/wheels.new"
"$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    "${platforms[@]}" --find-links "$output/wheels" --dest "$output/wheels.new" -r "$repository/benchmarks/gpu_wheels.txt"
rm -rf "$output/wheels" # of another list, perhaps: pip refuses to install two versions
mv "$output/wheels.new" "$output/wheels"

rm -rf "$output/capture"
"$python" "$repository/benchmarks/gpu_capture.py" "$capture" "$output/capture"

bundle=$(du -sb "$output" | cut -f1)
tracked=$(cd "$repository" && git ls-files -z --cached --others --exclude-standard | xargs -0 du -cb | tail -n 1 | cut -f1)
mib() { awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'; }
(cd "$output" && { du -sb -- * && du -sb -- wheels/*; } | sort -rn | awk -F '\t' '{ printf "%9.2f MiB  %s\n", $1 / 1048576, $2 }')
echo "$output: $(mib "$bundle"), and $(mib "$tracked") of the checkout, of $limit MiB"
if [ $((bundle + tracked)) -gt $((limit << 20)) ]; then
    echo "gpu_bundle: together they are larger than $limit MiB; leave out a capture or a wheel." >&2
    exit 1
fi
echo "There: python3 benchmarks/gpu.py --bundle BUNDLE --output FOLDER --keep FOLDER_THAT_COMES_BACK --minutes 9"
