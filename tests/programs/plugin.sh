#!/bin/bash
# plugin.sh: a plugin that links libcoir.so is loaded, run and unloaded again and again by a program
# that does not.
#
# Always true: the host has no symbol of coir, so the library comes with the plugin; it stays when
# that goes.
#
# Comes from: ctest.   Goes to: plugin_host.cpp, plugin.c.
set -u
host=$BUILD_DIR/tests/plugin_host plugin=$BUILD_DIR/tests/libplugin.so
[[ -x $host && -f $plugin ]] || { echo "not built here"; exit 77; }
loads=$(ldd "$host") || exit 1
[[ $loads != *libcoir* ]] || { echo "the host loads coir itself"; exit 1; }
[[ $(ldd "$plugin") == *libcoir.so* ]] || { echo "the plugin has coir inside"; exit 1; }
exec "$host" "$plugin"
