#!/usr/bin/env bash
# Unpack Debian 12's redis-server into DIR, without root and without installing or starting it.
#
#   DIR/bin/redis-server   DIR/lib/*.so.*   (start it with LD_LIBRARY_PATH=DIR/lib)
#
# The package index is read with the machine's own apt; if that has none (a fresh image) or an
# outdated one, a private index is fetched into a temporary directory.
set -euo pipefail

dir=${1:?usage: fetch-debian-redis.sh DIR}
packages=(redis-tools libjemalloc2 liblzf1 libatomic1) # redis-tools holds the server's binary

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp"
cd "$tmp"

if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
  echo "no apt here; put a Redis 7.0 at $dir/bin/redis-server" >&2
  exit 1
fi

if ! apt-get download "${packages[@]}" >log 2>&1; then
  mkdir -p state/lists/partial cache/archives/partial
  private=(-o "Dir::State=$tmp/state" -o "Dir::State::lists=$tmp/state/lists"
    -o "Dir::State::status=/var/lib/dpkg/status" -o "Dir::Cache=$tmp/cache"
    -o "APT::Sandbox::User=$(id -un)")
  if ! { apt-get "${private[@]}" update && apt-get "${private[@]}" download "${packages[@]}"; } >>log 2>&1; then
    cat log >&2
    exit 1
  fi
fi

for deb in *.deb; do
  dpkg -x "$deb" root
done
rm -rf "$dir/bin" "$dir/lib"
mkdir -p "$dir/bin" "$dir/lib"
# One binary has three names (server and the two file checkers) and asks argv[0] which it is.
cp -L root/usr/bin/redis-check-rdb "$dir/bin/redis-server"
find root -name '*.so.*' -exec cp -P {} "$dir/lib/" \;

missing=$(LD_LIBRARY_PATH=$dir/lib ldd "$dir/bin/redis-server" | grep 'not found' || true)
if [ -n "$missing" ]; then
  echo "redis-server lacks libraries:" "$missing" >&2
  exit 1
fi
LD_LIBRARY_PATH=$dir/lib "$dir/bin/redis-server" --version
