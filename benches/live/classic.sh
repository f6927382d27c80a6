#!/bin/bash
# The classic way to staple, as it is found in many places: for every certificate ask the CA with `openssl ocsp`, look
# whether it says good, keep the answer beside the certificate, and hand it to HAProxy with socat.
#
#   classic.sh ROOT.pem ISSUER.pem SOCKET CERTIFICATE...
set -euo pipefail

root=$1 issuer=$2 socket=$3
shift 3

for certificate; do
    url=$(openssl x509 -in "$certificate" -noout -ocsp_uri)
    verdict=$(openssl ocsp -no_nonce -CAfile "$root" -verify_other "$issuer" -issuer "$issuer" -cert "$certificate" \
        -url "$url" -respout "$certificate.ocsp" 2>&1)
    grep -q 'Response verify OK' <<<"$verdict"
    grep -q "^$certificate: good" <<<"$verdict"
    echo "set ssl ocsp-response $(base64 -w 0 "$certificate.ocsp")" | socat stdio "$socket" | grep -q 'Response updated'
done
