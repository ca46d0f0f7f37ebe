#pragma once

#include "base/diag.h"
#include "base/secret.h"

#define SEAL_KEY_SIZE 32

/*
 * The sealing key: a file of exactly 32 random bytes, owned by us or root, that nobody else can read. A fault is told
 * in *diags with what to do about it: -ENOENT not there, -EACCES not ours or too open, -EINVAL not 32 bytes, -EIO.
 */
int seal_key_load(const char *path, struct secret *ret, struct diags *diags);

/* Make one, mode 0600, on disk when this returns 0. Never over a file that is there: -EEXIST. Else -ENOSPC, -EIO. */
int seal_key_create(const char *path, struct diags *diags);
