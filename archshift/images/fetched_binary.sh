# Puts the binary for this node's architecture into $FOLDER as $NAME, or fails and leaves nothing there.
#
# POSIX sh; needs uname, timeout, sha256sum, od, tr, grep, tail, and curl or wget. busybox alone has them all.
set -eu
umask 077

target=$FOLDER/$NAME
part=$FOLDER/.$NAME.part
log=$FOLDER/.$NAME.log
placed=

fail() {
    printf '%s: %s\n' "$NAME" "$1" >&2
    exit 1
}

# However this ends: nothing half done, and no binary that this run did not verify.
clean() {
    rm -f "$part" "$log"
    [ -n "$placed" ] || rm -f "$target"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM

# The bytes at the head of a 64-bit little-endian ELF file, and its machine after 12 that do not matter.
elf='7f454c460201????????????????????????'
machine=$(uname -m) || fail "uname -m does not say what machine this is"
case $machine in
    x86_64 | amd64) url=$URL_AMD64 sha256=$SHA256_AMD64 elf=${elf}3e00 ;;
    aarch64 | arm64) url=$URL_ARM64 sha256=$SHA256_ARM64 elf=${elf}b700 ;;
    *) fail "there is no binary for $machine, only for x86_64 and aarch64" ;;
esac

protocols='=https'
[ "$ALLOW_HTTP" != yes ] || protocols='=https,http'
case $url in
    https://*) ;;
    http://*) [ "$ALLOW_HTTP" = yes ] || fail "$url is not https" ;;
    *) fail "$url is not https" ;;
esac

for tool in timeout sha256sum od tr grep tail; do
    command -v "$tool" >/dev/null || fail "the image that fetches has no $tool"
done

has_checksum() {
    sum=$(sha256sum <"$1") && [ "${sum%% *}" = "$sha256" ]
}

fits_this_machine() {
    # shellcheck disable=SC2254 # it is a pattern
    case $(od -A n -t x1 -N 20 "$1" | tr -d ' \n') in
        $elf) ;;
        *) return 1 ;;
    esac
}

download() {
    # Neither an answer without end nor one that never comes. The limit counts blocks of 512 bytes.
    ulimit -f $((LARGEST_MIB * 2048)) || exit 1
    if command -v curl >/dev/null; then
        exec timeout "$SECONDS_AT_MOST" curl -q --silent --show-error --fail --globoff --location --max-redirs 5 \
            --proto "$protocols" --proto-redir "$protocols" --output "$part" "$url"
    fi
    exec timeout "$SECONDS_AT_MOST" wget -S -O "$part" "$url"
}

# A container that starts again on the same node finds its volume as it was.
if [ -f "$target" ] && has_checksum "$target"; then
    placed=yes
    exit 0
fi
rm -f "$target" "$part" "$log"

: >"$part"
(download) 2>"$log" >&2 || {
    code=$?
    tail -c 500 "$log" >&2 || :
    case $code in
        # What ended it: coreutils' timeout says 124, busybox's the signal.
        124 | 143) fail "$url was not there after $SECONDS_AT_MOST s" ;;
        *) fail "$url cannot be downloaded, or is larger than $LARGEST_MIB MiB" ;;
    esac
}
# curl was told where it may be sent on to; of wget it shows afterwards.
if [ "$ALLOW_HTTP" != yes ] && grep -i '^ *location:' "$log" | grep -i -v -q 'location: *\(https:\|/\)'; then
    fail "$url leads to an address that is not https"
fi
has_checksum "$part" || fail "what $url gave does not have the sha256 $sha256"
fits_this_machine "$part" || fail "what $url gave is not a binary for $machine"

chmod 555 "$part"
mv -f "$part" "$target"
placed=yes
printf '%s: %s has the expected sha256\n' "$NAME" "$url"
