// SPDX-License-Identifier: Apache-2.0
#include "agent/host.h"

#include "agent/apply.h"
#include "agent/lockdown.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NFT_AGAIN_MS 5000 // each time the kernel looks for modules
#define ROUNDS_MAX 4      // a tunnel made in one round is seen, with its settings, in the next

int host_may_change(struct err *err)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &head, sets) == 0 && sets[0].effective & 1u << CAP_NET_ADMIN)
		return 0;
	return err_set(err, -EPERM, NULL, "no permission to change the network: run as root, or with CAP_NET_ADMIN");
}

static int open_by(int (*open_journal)(const char *run_dir, struct journal *ret, struct err *err), const char *run_dir,
	struct host *ret, struct err *err)
{
	struct host host = { .look_again_ms = -1, .evidence.own = (uint32_t)getpid() };
	int rc = open_journal(run_dir, &host.journal, err);

	if (!rc)
		rc = netsock_open(NETLINK_ROUTE, &host.sock, err);
	if (rc) {
		journal_close(&host.journal);
		return rc;
	}
	*ret = host;
	return 0;
}

int host_open(const char *run_dir, struct host *ret, struct err *err)
{
	return open_by(journal_open, run_dir, ret, err);
}

int host_peek(const char *run_dir, struct host *ret, struct err *err)
{
	return open_by(journal_peek, run_dir, ret, err);
}

void host_close(struct host *host)
{
	plan_clear(&host->left);
	observed_clear(&host->seen);
	repairs_clear(&host->repairs);
	journal_close(&host->journal);
	netsock_free(host->sock);
	netsock_free(host->nft);
	host->sock = host->nft = NULL;
}

// What the spec, or what we made for an earlier one, needs to be seen.
static struct observe_more what_matters(const struct host *host, const struct spec *spec)
{
	struct observe_more more = { 0 };

	for (size_t i = 0; i < spec->count; i++) {
		more.rules |= spec->services[i].method != FORWARD_DR;
		more.fous |= spec->services[i].method == FORWARD_GUE;
		if (spec->services[i].method == FORWARD_NAT)
			more.table = spec->table;
	}
	for (size_t i = 0; i < host->journal.list.count; i++) {
		const struct resource *r = &host->journal.list.items[i];

		more.fous |= r->kind == RESOURCE_FOU;
		more.rules |= r->kind == RESOURCE_RULE;
		if (r->kind == RESOURCE_ROUTE && !more.table)
			more.table = r->table;
	}
	more.nft = host->nft;
	return more;
}

// nftables is asked for when it is wanted first, or when an earlier run made our table: the modules come with that. A
// kernel that has none may get it later.
static int look_for_nft(struct host *host, struct spec *spec, struct err *err)
{
	bool needed = false;
	struct err why = { 0 };
	int rc = 0;

	for (size_t i = 0; i < spec->count; i++)
		needed |= spec->lockdown.wanted && forward_is_tunnel(spec->services[i].method);
	for (size_t i = 0; i < host->journal.list.count; i++)
		needed |= host->journal.list.items[i].kind == RESOURCE_TABLE;
	if (needed && !host->nft && (!host->no_nft || clock_now_ms() >= host->nft_again_ms))
		rc = nft_open(&host->nft, &why);
	if (rc == -EOPNOTSUPP) {
		if (!host->no_nft)
			log_warning("lockdown: %s: tunnel packets %s", why.text,
				spec->lockdown.must ? "would be taken from anybody, so there is no tunnel"
						    : "are taken from anybody");
		host->no_nft = true;
		host->nft_again_ms = clock_now_ms() + NFT_AGAIN_MS;
		rc = 0;
	} else if (rc && err) {
		*err = why;
	}
	spec->lockdown.possible = host->nft;
	return rc;
}

// Copies of the main table, and the rules that lead to them.
static void drop_table(struct resource_list *want, uint32_t table)
{
	for (size_t i = want->count; i-- > 0;) {
		const struct resource r = want->items[i];

		if ((r.kind == RESOURCE_MIRROR || r.kind == RESOURCE_RULE) && r.table == table)
			resource_list_remove(want, &r);
	}
}

// Copies of the main table are compared with what it holds now. On a router there are none.
static int look_at_mirrors(struct host *host, struct spec *spec, struct resource_list *want, struct err *err)
{
	host->follows_main = false;
	for (size_t i = 0; i < want->count; i++) {
		struct err why = { 0 };

		if (want->items[i].kind != RESOURCE_MIRROR)
			continue;
		int rc = observe_mirror(host->sock, &want->items[i], &host->seen, &why);
		if (rc == -E2BIG && !host->said_too_many)
			log_warning("%s: replies cannot tell clients an MSS that fits the tunnels", why.text);
		host->said_too_many |= rc == -E2BIG;
		if (rc == -E2BIG) {
			spec->mtu = 0;
			drop_table(want, want->items[i].table);
			return look_at_mirrors(host, spec, want, err); // of another family, or table
		}
		if (rc) {
			if (err)
				*err = why;
			return rc;
		}
		host->follows_main = true;
	}
	return 0;
}

// A device keeps its number when it is renamed, and what was changed on it, with what it had before, stays with the
// device. What belongs to one that is gone is forgotten; another one may have its name by now.
static int follow_devices(struct host *host)
{
	const struct observed *seen = &host->seen;
	struct resource_list list = { 0 };
	bool changed = false;
	int rc = 0;

	for (size_t i = 0; i < host->journal.list.count && !rc; i++) {
		struct resource r = host->journal.list.items[i];
		const struct iflink *link = r.ifindex ? iflink_find(seen->links, seen->link_count, r.dev) : NULL;

		if (r.ifindex && (!link || link->index != r.ifindex)) {
			link = iflink_find_index(seen->links, seen->link_count, r.ifindex);
			changed = true;
			if (!link)
				continue;
			log_info("device %s is called %s now", r.dev, link->name);
			memcpy(r.dev, link->name, sizeof(r.dev));
		}
		rc = resource_list_add(&list, &r);
	}
	if (rc || !changed) {
		resource_list_clear(&list);
		return rc;
	}
	resource_list_clear(&host->journal.list);
	host->journal.list = list;
	host->journal_changed = true;
	return 0;
}

// In the last round that was applied.
static bool arp_was_refused(const struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct plan_op *op = &plan->ops[i];

		if (op->error && op->verb != PLAN_REMOVE && resource_keeps_arp_quiet(&op->resource))
			return true;
	}
	return false;
}

static int make_plan(struct host *host, struct spec *spec, struct plan *ret_plan, struct err *err)
{
	struct resource_list want = { 0 };
	int rc = look_for_nft(host, spec, err);
	const struct observe_more more = what_matters(host, spec);

	observed_clear(&host->seen);
	if (!rc)
		rc = observe(host->sock, &more, &host->seen, err);
	host->seen.arp_refused = arp_was_refused(&host->left);
	if (!rc)
		rc = follow_devices(host);
	if (rc)
		return rc == -ENOMEM ? err_set(err, rc, NULL, "out of memory") : rc;
	spec->mtu = observe_mtu(&host->seen, &spec->address);
	rc = desired(spec, host->seen.links, host->seen.link_count, &want);
	for (size_t i = 0; i < host->journal.list.count && host->keeps_all && !rc; i++)
		rc = resource_list_add(&want, &host->journal.list.items[i]);
	if (!rc)
		rc = look_at_mirrors(host, spec, &want, err);
	if (!rc)
		rc = plan_make(&want, &host->journal.list, &host->seen, ret_plan);
	resource_list_clear(&want);
	return rc == -ENOMEM ? err_set(err, rc, NULL, "out of memory") : rc;
}

int host_preview(struct host *host, struct spec *spec, struct plan *ret, struct err *err)
{
	return make_plan(host, spec, ret, err);
}

// What is not on disk is tried again before anything is made.
static int save(struct host *host, struct err *err)
{
	int rc = journal_save(&host->journal, err);

	host->journal_changed = rc != 0;
	return rc;
}

static int copy_list(const struct resource_list *from, struct resource_list *ret)
{
	struct resource_list list = { 0 };
	int rc = 0;

	for (size_t i = 0; i < from->count && !rc; i++)
		rc = resource_list_add(&list, &from->items[i]);
	if (rc)
		resource_list_clear(&list);
	else
		*ret = list;
	return rc;
}

// What will be ours is written down before it is made. If it cannot be, it is not ours, and not made.
static int note_intents(struct host *host, const struct plan *plan, struct err *err)
{
	struct resource_list before = { 0 };
	bool noted = false;
	int rc = copy_list(&host->journal.list, &before);

	if (rc)
		return err_set(err, rc, NULL, "out of memory");
	for (size_t i = 0; i < plan->count && !rc; i++) {
		const struct plan_op *op = &plan->ops[i];

		if (op->verb != PLAN_ADD)
			continue;
		resource_list_remove(&host->journal.list, &op->resource); // a copy with another MSS
		rc = resource_list_add(&host->journal.list, &op->resource);
		noted = true;
	}
	if (rc)
		err_set(err, rc, NULL, "out of memory");
	else if (noted)
		rc = save(host, err);
	if (rc) {
		resource_list_clear(&host->journal.list);
		host->journal.list = before;
	} else {
		resource_list_clear(&before);
	}
	return rc;
}

// What could not be made is not ours; what was taken away is no longer. Of a copy that was refused a route, the others
// stand.
static int note_results(struct host *host, const struct plan *plan, struct err *err)
{
	bool noted = false;

	for (size_t i = 0; i < plan->count; i++) {
		const struct plan_op *op = &plan->ops[i];

		if ((op->verb == PLAN_ADD && op->error && op->resource.kind != RESOURCE_MIRROR) ||
			(op->verb == PLAN_REMOVE && !op->error)) {
			resource_list_remove(&host->journal.list, &op->resource);
			noted = true;
		}
	}
	return noted ? save(host, err) : 0;
}

// A copy of the main table follows it, which is no repair, unless somebody was seen to change the copy.
static void name_repairs(struct host *host, struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		struct plan_op *op = &plan->ops[i];

		if (op->verb == PLAN_ADD && op->resource.kind == RESOURCE_MIRROR &&
			resource_list_find(&host->journal.list, &op->resource) >= 0 &&
			evidence_find(&host->evidence, &op->resource))
			op->verb = PLAN_REPAIR;
	}
}

// What somebody undoes again and again waits.
static void brake(struct host *host, struct plan *plan, msec_t now_ms)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct plan_op *op = &plan->ops[i];
		char why[sizeof(op->why)];

		if (op->verb != PLAN_REPAIR || repairs_may(&host->repairs, &op->resource, now_ms))
			continue;
		repairs_describe(&host->repairs, &op->resource, why, sizeof(why));
		plan_hold(plan, i, why);
	}
}

static void tell(struct host *host, const struct plan *plan, msec_t now_ms)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct plan_op *op = &plan->ops[i];
		char command[RESOURCE_COMMAND_MAX];

		if (op->verb == PLAN_CONFLICT || op->error)
			continue;
		host->operations++;
		if (op->verb == PLAN_REPAIR)
			repairs_note(
				&host->repairs, &op->resource, evidence_find(&host->evidence, &op->resource), now_ms);
		else
			log_info("%s", resource_command(&op->resource, op->verb == PLAN_ADD, command));
		evidence_forget(&host->evidence, &op->resource);
	}
}

int host_reconcile(struct host *host, struct spec *spec, struct err *err)
{
	const msec_t now_ms = clock_now_ms();
	int rc = 0;

	for (int round = 0; round < ROUNDS_MAX; round++) {
		struct plan plan = { 0 };

		rc = make_plan(host, spec, &plan, err);
		if (!rc && host->journal_changed)
			rc = save(host, err);
		if (!rc) {
			name_repairs(host, &plan);
			brake(host, &plan, now_ms);
			plan_put_off(&plan);
		}
		bool changes = !rc && plan_changes(&plan);

		if (changes)
			rc = note_intents(host, &plan, err);
		size_t failed = 0;
		const bool refused = arp_was_refused(&host->left);
		if (!rc && changes) {
			failed = apply_plan(host->sock, host->nft, &plan, &host->seen);
			tell(host, &plan, now_ms);
			rc = note_results(host, &plan, err);
		}
		plan_clear(&host->left);
		host->left = plan;
		// what failed would fail again at once, but VIPs may have to go for it
		if (rc || !changes || (failed == plan_changes(&plan) && refused == arp_was_refused(&plan)))
			break;
	}
	host->look_again_ms = repairs_settle(&host->repairs, now_ms);
	return rc;
}

int host_give_back(struct host *host, struct err *err)
{
	struct spec nothing = { 0 };
	struct err why = { 0 };

	host->keeps_all = false;
	int rc = host_reconcile(host, &nothing, &why);
	if (!rc && host->journal.list.count)
		rc = -EBUSY;
	if (rc)
		return err_set(err, rc, NULL, "the host could not be given back as it was: %s; see %s",
			*why.text                  ? why.text
				: host->left.count ? host->left.ops[0].why
						   : "?",
			host->journal.path);
	unlink(host->journal.path);
	return 0;
}

int host_address(const struct host *host, struct inet_addr *ret)
{
	_cleanup_free_ struct route_default *routes = NULL;
	size_t count = 0;
	struct route_way way;
	int rc = route_dump_defaults(host->sock, RT_TABLE_MAIN, &routes, &count, NULL);

	if (!rc && !count)
		rc = -ENETUNREACH;
	if (!rc)
		rc = route_lookup(host->sock, &routes[0].gateway, &way, NULL);
	if (!rc && !inet_addr_is_set(&way.source))
		rc = -ENETUNREACH;
	if (!rc)
		*ret = way.source;
	return rc;
}

void host_problem(
	struct host *host, const struct spec *spec, const struct spec_service *service, char *buf, size_t size)
{
	struct resource_list want = { 0 };

	buf[0] = '\0';
	if (service->method == FORWARD_NAT && !inet_addr_is_set(&service->gateway))
		snprintf(buf, size, "no gateway for the replies: name the director's address as \"gateway\"");
	else if (service->method == FORWARD_NAT && !service->port)
		snprintf(buf, size,
			"nat needs a port: the replies of that port go back through the director, and no others");
	else if (forward_is_tunnel(service->method) && !*desired_device(spec, service))
		snprintf(buf, size, "no tunnel fits this pair of address families");
	else if (forward_is_tunnel(service->method) && lockdown_refuses(spec))
		lockdown_text(spec, host->seen.links, host->seen.link_count, buf, size);
	else if ((host->left.count || host->repairs.count) &&
		desired_of_service(spec, service, host->seen.links, host->seen.link_count, &want))
		snprintf(buf, size, "out of memory");
	for (size_t i = 0; i < host->left.count && !*buf; i++) {
		const struct plan_op *op = &host->left.ops[i];
		char command[RESOURCE_COMMAND_MAX];

		if ((op->verb == PLAN_REMOVE && !op->error) || resource_list_find(&want, &op->resource) < 0)
			continue;
		if (*op->why)
			snprintf(buf, size, "%s", op->why);
		else // done in the last round that was allowed, and not read back
			snprintf(buf, size, "did not last: %.200s", resource_command(&op->resource, true, command));
	}
	for (size_t i = 0; i < want.count && !*buf; i++)
		repairs_problem(&host->repairs, &want.items[i], clock_now_ms(), buf, size);
	resource_list_clear(&want);
}
