#!/bin/sh
# Makes the files of this directory: openssl 3, keytool and java of JDK 17. Certificates last 100 years; all stores and
# keys with a password have `testpass`. The keys are for tests only: they protect nothing.
set -eu
cd "$(dirname "$0")"
P=testpass
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -f ./*.pem ./*.p12 ./*.jks names.txt

key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$work/$1.key"; }

# sign <name> <ca> <subject> <extensions>: $work/<name>.crt of the key <name>.
sign() {
    printf '%b' "$4" > "$work/ext"
    openssl req -new -key "$work/$1.key" -subj "$3" -out "$work/$1.csr"
    openssl x509 -req -in "$work/$1.csr" -CA "$work/$2.crt" -CAkey "$work/$2.key" -CAcreateserial -days 36500 \
        -extfile "$work/ext" -out "$work/$1.crt" 2> /dev/null
}

# Two authorities that do not know each other, and one below the first.
for ca in ca other; do
    key $ca
    openssl req -x509 -new -key "$work/$ca.key" -subj "/O=zabkit tests/CN=$ca" -days 36500 -out "$work/$ca.crt"
done
key between
sign between ca "/O=zabkit tests/CN=between" "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n"

server="subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n"
client="extendedKeyUsage=clientAuth\n"
for name in server client stranger below revoked onlyserver super; do key $name; done
sign server ca "/O=zabkit tests/CN=localhost" "$server"
sign client ca "/O=zabkit tests/OU=a, b/CN=client" "$client"
sign super ca "/O=zabkit tests/CN=super" "$client"
sign stranger other "/O=zabkit tests/CN=stranger" "$client"
sign below between "/O=zabkit tests/CN=below" "$client"
sign revoked ca "/O=zabkit tests/CN=revoked" "$client"
sign onlyserver ca "/O=zabkit tests/CN=onlyserver" "extendedKeyUsage=serverAuth\n"
openssl genrsa 2048 2> /dev/null | openssl pkcs8 -topk8 -nocrypt -out "$work/rsa.key"
sign rsa ca "/O=zabkit tests/CN=localhost" "$server"
# Signs itself, and could sign others: what `openssl req -x509` makes. And one of version 1.
key selfsigned
openssl req -x509 -new -key "$work/selfsigned.key" -subj "/O=zabkit tests/CN=selfsigned" -days 36500 -out "$work/selfsigned.crt"
key version1
openssl req -new -key "$work/version1.key" -subj "/O=zabkit tests/CN=localhost" -out "$work/version1.csr"
openssl x509 -req -in "$work/version1.csr" -CA "$work/ca.crt" -CAkey "$work/ca.key" -days 36500 -out "$work/version1.crt" 2> /dev/null

# Read for its names only.
key wildcard
openssl req -x509 -new -key "$work/wildcard.key" -subj "/O=zabkit tests/CN=wildcard" -days 36500 \
    -addext "subjectAltName=DNS:*.ensemble.test,DNS:plain.test" -out wildcard.pem

for ca in ca other selfsigned; do cp "$work/$ca.crt" $ca.pem; done
for name in server client super stranger revoked onlyserver rsa version1; do
    cat "$work/$name.key" "$work/$name.crt" > $name.pem
done
mv selfsigned.pem "$work/"; cat "$work/selfsigned.key" "$work/selfsigned.crt" > selfsigned.pem
cat "$work/below.key" "$work/below.crt" "$work/between.crt" > below.pem
# The key behind its certificates, in the forms that are not PKCS#8, and encrypted.
{ cat "$work/ca.crt" "$work/server.crt"; openssl ec -in "$work/server.key" 2> /dev/null; } > server-sec1.pem
{ openssl rsa -traditional -in "$work/rsa.key" 2> /dev/null; cat "$work/rsa.crt"; } > rsa-pkcs1.pem
{ openssl pkcs8 -topk8 -in "$work/server.key" -passout pass:$P; cat "$work/server.crt"; } > server-encrypted.pem

# A trust store with a list of what is revoked.
mkdir "$work/list"; : > "$work/list/index.txt"; echo 01 > "$work/list/crlnumber"
cat > "$work/list/conf" <<CONF
[ca]
default_ca=d
[d]
database=$work/list/index.txt
crlnumber=$work/list/crlnumber
default_md=sha256
default_crl_days=36500
CONF
openssl ca -config "$work/list/conf" -cert "$work/ca.crt" -keyfile "$work/ca.key" -revoke "$work/revoked.crt" 2> /dev/null
openssl ca -config "$work/list/conf" -cert "$work/ca.crt" -keyfile "$work/ca.key" -gencrl -out "$work/ca.crl" 2> /dev/null
cat "$work/ca.crt" "$work/ca.crl" > ca-crl.pem

# PKCS#12 by openssl: as it writes now (PBES2, HMAC-SHA256), and as it did (RC2 and triple DES, HMAC-SHA1).
openssl pkcs12 -export -inkey "$work/server.key" -in "$work/server.crt" -certfile "$work/ca.crt" -name server \
    -passout pass:$P -out keystore-openssl.p12
openssl pkcs12 -export -legacy -inkey "$work/server.key" -in "$work/server.crt" -certfile "$work/ca.crt" -name server \
    -passout pass:$P -out keystore-legacy.p12
openssl pkcs12 -export -nokeys -in "$work/ca.crt" -passout pass:$P -out truststore-openssl.p12

# The same by keytool: JKS, and PKCS#12 as it is its default.
for type in JKS PKCS12; do
    suffix=jks; test $type = JKS || suffix=p12
    keytool -importkeystore -noprompt -srckeystore keystore-openssl.p12 -srcstorepass $P -deststoretype $type \
        -destkeystore keystore.$suffix -deststorepass $P 2> /dev/null
    keytool -importcert -noprompt -alias ca -file "$work/ca.crt" -storetype $type -keystore truststore.$suffix \
        -storepass $P 2> /dev/null
done

# Keys made by Java hold no public part.
for type in JKS PKCS12; do
    suffix=jks; test $type = JKS || suffix=p12
    for kind in "EC secp256r1" "EC secp384r1" "RSA 2048"; do
        set -- $kind
        size="-groupname $2"; test $1 = EC || size="-keysize $2"
        test "$kind $suffix" = "RSA 2048 p12" || keytool -genkeypair -alias "$1-$2" -keyalg $1 $size \
            -dname "CN=$2,O=zabkit tests" -ext san=dns:localhost -validity 36500 -storetype $type \
            -keystore keytool.$suffix -storepass $P -keypass $P 2> /dev/null
    done
done

# Lasted a day, ten days before this was run.
keytool -genkeypair -alias e -keyalg EC -groupname secp256r1 -dname "CN=expired,O=zabkit tests" -storetype PKCS12 \
    -keystore "$work/expired.p12" -storepass $P 2> /dev/null
keytool -certreq -alias e -keystore "$work/expired.p12" -storepass $P -file "$work/expired.csr" 2> /dev/null
openssl pkcs12 -export -inkey "$work/ca.key" -in "$work/ca.crt" -name ca -passout pass:$P -out "$work/ca.p12"
keytool -gencert -alias ca -keystore "$work/ca.p12" -storepass $P -infile "$work/expired.csr" -rfc -startdate -10d \
    -validity 1 -outfile "$work/expired.crt" 2> /dev/null
{ openssl pkcs12 -in "$work/expired.p12" -passin pass:$P -nocerts -nodes 2> /dev/null; cat "$work/expired.crt"; } > expired.pem

java Names.java > names.txt
