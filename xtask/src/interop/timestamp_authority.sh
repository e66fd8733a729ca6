#!/bin/sh
# A timestamp authority (RFC 3161) of OpenSSL's, for a demonstration: its keys lie in a folder.
#
#     timestamp_authority.sh FOLDER             makes the authority, if it is not there
#     timestamp_authority.sh FOLDER SIG TSR     lets it timestamp the file SIG
set -eu
umask 077
folder=$1
configuration=$folder/authority.cnf

if [ ! -e "$folder/authority.pem" ]; then
    mkdir -p "$folder"
    cat > "$configuration" <<END
[req]
distinguished_name = name
prompt = no
[name]
CN = Demonstration timestamp authority
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[authority]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[timestamps]
serial = $folder/serial
crypto_device = builtin
signer_cert = $folder/authority.pem
signer_key = $folder/authority.key
signer_digest = sha256
default_policy = 1.2.3.4.1
other_policies = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ordering = no
tsa_name = no
certs = $folder/root.pem
ess_cert_id_chain = no
ess_cert_id_alg = sha256
END
    echo 01 > "$folder/serial"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/CN=Demonstration root' \
        -config "$configuration" -extensions root -keyout "$folder/root.key" -out "$folder/root.pem"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -config "$configuration" -keyout "$folder/authority.key" -out "$folder/authority.csr"
    # Last, and then renamed: whoever sees authority.pem sees a whole authority.
    openssl x509 -req -in "$folder/authority.csr" -CA "$folder/root.pem" -CAkey "$folder/root.key" -CAcreateserial \
        -days 3650 -extfile "$configuration" -extensions authority -out "$folder/authority.new"
    mv "$folder/authority.new" "$folder/authority.pem"
fi

if [ $# -eq 3 ]; then
    openssl ts -query -data "$2" -sha256 -cert -out "$folder/query.tsq"
    openssl ts -reply -config "$configuration" -section timestamps -queryfile "$folder/query.tsq" -out "$3"
fi
