#!/usr/bin/env bash
# Keys and tokens to try RequestAuthentication with. Needs openssl and nothing else.
#   jwt.sh key DIR            makes DIR/key.pem (RSA) and DIR/jwks.json, its public half
#   jwt.sh token DIR CLAIMS   prints a token with these claims (JSON), signed by the key
set -euo pipefail

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

case "${1:-}" in
  key)
    dir=$2
    mkdir -p "$dir"
    openssl genrsa -out "$dir/key.pem" 2048 2>/dev/null
    # The modulus is printed in hex; printf makes bytes of it.
    modulus=$(openssl rsa -in "$dir/key.pem" -noout -modulus | cut -d= -f2 | sed 's/../\\x&/g')
    n=$(printf '%b' "$modulus" | base64url)
    id=$(printf '%s' "$n" | openssl dgst -sha256 -r | cut -c1-16)
    printf '%s' "$id" > "$dir/id"
    printf '{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"%s","e":"AQAB","n":"%s"}]}\n' "$id" "$n" > "$dir/jwks.json"
    ;;
  token)
    dir=$2 claims=$3
    header=$(printf '{"alg":"RS256","typ":"JWT","kid":"%s"}' "$(cat "$dir/id")" | base64url)
    signed=$header.$(printf '%s' "$claims" | base64url)
    printf '%s.%s\n' "$signed" "$(printf '%s' "$signed" | openssl dgst -sha256 -sign "$dir/key.pem" | base64url)"
    ;;
  *)
    echo "usage: $0 key DIR | token DIR CLAIMS" >&2
    exit 2
    ;;
esac
