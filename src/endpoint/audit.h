#pragma once

struct aced;
struct request;
struct response;

/*
 * Add the row of a decision to the audit trail: who asked (request->peer), what (method, path, body of an
 * administrator), what came of it (response->code, refusal, why, note). In the transaction of what it tells of; sets
 * response->audit_seq, and note.object when nobody has. 0, < 0.
 *
 * The router does so for each request to a resource that is audited. A handler that runs others by itself does it for
 * each of them, with a request whose json is the body, and with response->code and refusal set.
 */
int audit_add(struct aced *as, const struct request *request, struct response *response);
