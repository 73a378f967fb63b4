-- The keys for which certificates were renewed. Asked again with the same key, a gateway gets the same certificate: its
-- first answer may have been lost. A key of one gateway never becomes that of another.
create table gateway_keys (
    key_sha256 text primary key,  -- of the SubjectPublicKeyInfo (RFC 5280 4.1.2.7)
    gateway_id uuid not null references gateways,
    certificate_sha256 text not null references gateway_certificates,
    certificate_pem text not null
);
