#pragma once

struct invocation;

/* Verbs of acectl that work on the audit trail with code of their own. Exit statuses. */
int run_audit_verify(struct invocation *invocation);
int run_audit_export(struct invocation *invocation);
