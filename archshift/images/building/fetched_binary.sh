# Downloads the binary for this node's architecture to $FOLDER/$NAME, or fails and leaves no file there.
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

# Never leave a part of a file, or a binary that this run did not verify.
clean() {
    rm -f "$part" "$log"
    [ -n "$placed" ] || rm -f "$target"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM

# The first bytes of a 64-bit little-endian ELF file. After 12 bytes that do not matter comes its machine.
elf='7f454c460201????????????????????????'
machine=$(uname -m) || fail "uname -m does not print the machine of this node"
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
    command -v "$tool" >/dev/null || fail "the fetch image has no $tool"
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
    # Limit the size and the time of the download. ulimit counts blocks of 512 bytes.
    ulimit -f $((LARGEST_MIB * 2048)) || exit 1
    if command -v curl >/dev/null; then
        exec timeout "$SECONDS_AT_MOST" curl -q --silent --show-error --fail --globoff --location --max-redirs 5 \
            --proto "$protocols" --proto-redir "$protocols" --output "$part" "$url"
    fi
    exec timeout "$SECONDS_AT_MOST" wget -S -O "$part" "$url"
}

# If the container starts again on the same node, the volume still has its content.
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
        # After a timeout, coreutils' timeout exits with 124, busybox's with the signal.
        124 | 143) fail "the download of $url took longer than $SECONDS_AT_MOST s" ;;
        *) fail "$url cannot be downloaded, or is larger than $LARGEST_MIB MiB" ;;
    esac
}
# curl itself refuses redirects to http. For wget the log shows them afterwards.
if [ "$ALLOW_HTTP" != yes ] && grep -i '^ *location:' "$log" | grep -i -v -q 'location: *\(https:\|/\)'; then
    fail "$url redirects to an address that is not https"
fi
has_checksum "$part" || fail "the file from $url does not have the sha256 $sha256"
fits_this_machine "$part" || fail "the file from $url is not a binary for $machine"

chmod 555 "$part"
mv -f "$part" "$target"
placed=yes
printf '%s: %s has the expected sha256\n' "$NAME" "$url"
