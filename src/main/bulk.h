#pragma once

#include "main/invocation.h"

/* acectl export and acectl apply: all that is registered, as rows of a file (rows.h). They return a status. */
extern const struct option bulk_export_options[], bulk_apply_options[];

int bulk_export(struct invocation *invocation);
int bulk_apply(struct invocation *invocation);
