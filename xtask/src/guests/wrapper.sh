#!/bin/sh
# Called by cargo in place of the compiler, with the compiler's path and arguments.
#
# cargo gives every crate an identity, `-C metadata`, and derives it from the absolute path where a crate lies outside
# of its workspace, as the SDK does. The identity orders functions and data in the component, so the same tree would
# give other bytes in another folder. Here the project's own crates get their name as identity instead.
for argument; do
    shift
    case $argument in
    metadata=*)
        case $CARGO_MANIFEST_DIR in
        "$GLOVEBOX_ROOT"/*) argument=metadata=$CARGO_PKG_NAME-$CARGO_PKG_VERSION ;;
        esac
        ;;
    esac
    set -- "$@" "$argument"
done
exec "$@"
