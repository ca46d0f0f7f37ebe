-- The profile coap_oscore (RFC 9203).

-- preferred_profile: 0 for none. oscore_alg, oscore_hkdf: of the security contexts between clients and the server.
ALTER TABLE servers ADD COLUMN preferred_profile INTEGER NOT NULL DEFAULT 0;
ALTER TABLE servers ADD COLUMN oscore_alg INTEGER NOT NULL DEFAULT 1;
ALTER TABLE servers ADD COLUMN oscore_hkdf INTEGER NOT NULL DEFAULT 1;

-- What the key is when it is that of an OSCORE_Input_Material: algorithm, hkdf and whether the token names the material
-- by its id alone, a byte each; salt and contextId, eight bytes each. NULL: it is not.
ALTER TABLE tokens ADD COLUMN osc BLOB;
ALTER TABLE refresh_tokens ADD COLUMN osc BLOB;
