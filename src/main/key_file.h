#pragma once

struct json_t;

/*
 * The public key in a PEM file, be it one of its own, a certificate's or a private key's: as hexadecimal of its
 * SubjectPublicKeyInfo, and as the rule that a certificate with that key fits. NULL: it has been said why not.
 */
struct json_t *key_file_public_key(const char *path);
struct json_t *key_file_rule(const char *path);
