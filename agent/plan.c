// SPDX-License-Identifier: Apache-2.0
#include "agent/plan.h"

#include "shared/diff.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct making {
	const struct observed *observed;
	struct plan *plan;
	bool removals; // first walk: what goes; second walk: what comes
	bool answers_arp;
};

static struct plan_op *append(struct plan *plan, enum plan_verb verb, const struct resource *r)
{
	if (plan->count == plan->room) {
		size_t room = plan->room ? 2 * plan->room : 16;
		struct plan_op *ops = reallocarray(plan->ops, room, sizeof(*ops));

		if (!ops)
			return NULL;
		plan->ops = ops;
		plan->room = room;
	}
	struct plan_op *op = &plan->ops[plan->count++];

	*op = (struct plan_op) { .verb = verb, .resource = *r };
	return op;
}

static int conflict(struct making *m, const struct resource *want, enum presence presence, const struct resource *found)
{
	const struct observed *observed = m->observed;
	struct plan_op *op = append(m->plan, PLAN_CONFLICT, want);
	char addr[INET_ADDR_MAX];

	if (!op)
		return -ENOMEM;
	switch (want->kind) {
	case RESOURCE_TABLE:
		snprintf(op->why, sizeof(op->why),
			"nftables has a table inet " NFT_OUR_TABLE " that is not as ours should be: nft delete table "
			"inet " NFT_OUR_TABLE);
		break;
	case RESOURCE_FOU:
		snprintf(op->why, sizeof(op->why), "UDP port %u is in use by another encapsulation (ip fou show)",
			want->sport);
		break;
	case RESOURCE_DEVICE:
		if (presence == PRESENCE_DOWN)
			snprintf(op->why, sizeof(op->why), "device %s is down and is not ours", want->dev);
		else
			snprintf(op->why, sizeof(op->why), "device %s is there already, as %s%s%s, and is not ours",
				found->dev, *found->device_kind ? found->device_kind : "something else",
				inet_addr_is_set(&found->addr) ? " local " : "",
				inet_addr_is_set(&found->addr) ? inet_addr_format(&found->addr, addr) : "");
		break;
	case RESOURCE_VIP:
		snprintf(op->why, sizeof(op->why),
			"VIP %s is already on device %s and is wanted on %s; take it away there",
			inet_addr_format(&want->addr, addr), observe_misplaced(observed, &want->addr, want->dev),
			want->dev);
		break;
	case RESOURCE_CONF:
		snprintf(op->why, sizeof(op->why),
			"net/ipv4/conf/all/%s is %d and overrules what %s needs: sysctl -w net/ipv4/conf/all/%s=%d, or "
			"manage_all: true",
			resource_conf_name(want->conf), observed->all[want->conf], want->dev,
			resource_conf_name(want->conf), want->value);
		break;
	case RESOURCE_ROUTE:
		snprintf(op->why, sizeof(op->why), "table %u has a default route of someone else via %s", want->table,
			inet_addr_format(&found->addr, addr));
		break;
	case RESOURCE_ALLOW:
	case RESOURCE_LOCK:
	case RESOURCE_MIRROR:
	case RESOURCE_RULE:
		break;
	}
	return 0;
}

// A setting on the device itself cannot win when "all" is larger than what is wanted.
static bool all_overrules(const struct observed *observed, const struct resource *want)
{
	return want->kind == RESOURCE_CONF && !resource_is_all(want) && observed->all[want->conf] > want->value;
}

// Is it about to be lowered? It comes before every device.
static bool lowers_all(const struct plan *plan, const struct resource *want)
{
	for (size_t i = 0; i < plan->count; i++)
		if (plan->ops[i].verb != PLAN_REMOVE && resource_is_all(&plan->ops[i].resource) &&
			plan->ops[i].resource.conf == want->conf)
			return true;
	return false;
}

// It would stand on a device or in a table, or lead to one, that turned out to be someone else's. Behind a lock that
// cannot be made no tunnel is opened.
static bool stands_on_conflict(const struct plan *plan, const struct resource *want)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct resource *r = &plan->ops[i].resource;

		if (plan->ops[i].verb != PLAN_CONFLICT)
			continue;
		if (r->kind == RESOURCE_DEVICE && want->kind != RESOURCE_DEVICE && strcmp(r->dev, want->dev) == 0)
			return true;
		if (r->kind == RESOURCE_ROUTE && want->kind == RESOURCE_RULE && r->table == want->table &&
			r->addr.family == want->addr.family)
			return true;
		if (r->kind == RESOURCE_TABLE && resource_waits_for_lock(want))
			return true;
	}
	return false;
}

// It stands on a device that an earlier operation of this plan makes.
static bool stands_on_new(const struct making *m, const struct resource *want)
{
	bool made = false, is_there = iflink_find(m->observed->links, m->observed->link_count, want->dev);

	for (size_t i = 0; i < m->plan->count; i++) {
		const struct plan_op *op = &m->plan->ops[i];

		if (op->resource.kind != RESOURCE_DEVICE || want->kind == RESOURCE_DEVICE ||
			strcmp(op->resource.dev, want->dev) != 0)
			continue;
		made |= op->verb == PLAN_ADD || op->verb == PLAN_REPAIR;
		is_there &= op->verb != PLAN_REMOVE;
	}
	return made && !is_there;
}

// "all" as it will be when this plan has been run.
static struct observed with_all_as_planned(
	const struct resource_list *desired, const struct resource_list *journal, const struct observed *observed)
{
	struct observed after = *observed;
	struct resource found;

	for (size_t i = 0; i < journal->count; i++) {
		const struct resource *ours = &journal->items[i];

		if (resource_is_all(ours) && resource_list_find(desired, ours) < 0 &&
			after.all[ours->conf] == ours->value)
			after.all[ours->conf] = ours->original;
	}
	for (size_t i = 0; i < desired->count && !observed->arp_refused; i++) {
		const struct resource *want = &desired->items[i];

		if (resource_is_all(want) && observe_resource(observed, want, &found) == PRESENCE_OTHER)
			after.all[want->conf] = want->value;
	}
	return after;
}

// Will this host answer ARP for our VIPs, whatever is done about it?
static bool answers_arp(
	const struct resource_list *desired, const struct resource_list *journal, const struct observed *observed)
{
	const struct observed after = with_all_as_planned(desired, journal, observed);

	for (size_t i = 0; i < desired->count; i++) {
		const struct resource *want = &desired->items[i];
		struct resource found;

		if (resource_keeps_arp_quiet(want) && (observed->arp_refused || all_overrules(&after, want)) &&
			observe_resource(&after, want, &found) == PRESENCE_OTHER)
			return true;
	}
	return false;
}

static int want_one(struct making *m, const struct resource *want, const struct resource *ours)
{
	struct resource found = { 0 };
	enum presence presence = observe_resource(m->observed, want, &found);

	if (stands_on_new(m, want)) {
		presence = PRESENCE_MISSING;
		found.value = m->observed->fresh[want->conf];
		if (want->kind == RESOURCE_CONF &&
			observe_conf_is_right(m->observed, want->conf, found.value, want->value))
			return 0;
	} else if (want->kind == RESOURCE_CONF && presence == PRESENCE_MISSING) {
		return 0; // the device has just gone
	}
	if (want->kind == RESOURCE_VIP && observe_misplaced(m->observed, &want->addr, want->dev))
		return conflict(m, want, presence, &found);
	if (presence == PRESENCE_THERE || stands_on_conflict(m->plan, want))
		return 0;
	if (presence == PRESENCE_DOWN && !ours)
		return conflict(m, want, presence, &found);
	const bool overruled = presence == PRESENCE_OTHER && all_overrules(m->observed, want);
	const bool for_now = overruled && lowers_all(m->plan, want);
	if (for_now && found.value == want->value)
		return 0;
	// a device or route of this name that is something else is not ours, whatever the journal says
	if (presence == PRESENCE_OTHER && (want->kind != RESOURCE_CONF || (overruled && !for_now)))
		return conflict(m, want, presence, &found);
	// the main table changes as it likes: to follow it is no repair
	struct plan_op *op = append(m->plan, ours && want->kind != RESOURCE_MIRROR ? PLAN_REPAIR : PLAN_ADD, want);

	if (!op)
		return -ENOMEM;
	op->resource.original = ours ? ours->original : found.value;
	op->resource.ifindex = found.ifindex;
	return 0;
}

static int remove_one(struct making *m, const struct resource *ours)
{
	struct plan_op *op = append(m->plan, PLAN_REMOVE, ours);
	uint64_t handle;

	if (!op)
		return -ENOMEM;
	if (ours->kind == RESOURCE_ALLOW || ours->kind == RESOURCE_LOCK) {
		const struct nft_rule rule = resource_nft_rule(ours);

		op->resource.original = nft_has(&m->observed->nft, &rule, &handle) ? (int32_t)handle : 0;
	}
	return 0;
}

static int visit(void *ctx, const void *want_item, const void *have_item)
{
	struct making *m = ctx;
	const struct resource *want = want_item, *ours = have_item;
	// ours, but made for another end or value: goes and comes again
	bool changed = want && ours && !resource_same(want, ours);

	// a VIP that clients would send to this host for, past the director, goes until that is mended
	const bool harms = ours && m->answers_arp && ours->kind == RESOURCE_VIP && ours->addr.family == AF_INET;

	if (m->removals)
		return !want || changed || harms ? remove_one(m, ours) : 0;
	if (!want)
		return 0;
	if (changed) {
		struct plan_op *op = append(m->plan, PLAN_ADD, want);

		if (!op)
			return -ENOMEM;
		op->resource.original = ours->original;
		op->resource.ifindex = ours->ifindex;
		return 0;
	}
	return want_one(m, want, ours);
}

static int compare(const void *a, const void *b)
{
	return resource_cmp(a, b);
}

static void reverse(struct plan *plan)
{
	for (size_t i = 0; i < plan->count / 2; i++) {
		struct plan_op op = plan->ops[i];

		plan->ops[i] = plan->ops[plan->count - 1 - i];
		plan->ops[plan->count - 1 - i] = op;
	}
}

int plan_make(const struct resource_list *desired, const struct resource_list *journal, const struct observed *observed,
	struct plan *ret)
{
	const struct diff_list want = { desired->items, desired->count, sizeof(*desired->items) };
	const struct diff_list have = { journal->items, journal->count, sizeof(*journal->items) };
	struct plan plan = { 0 };
	struct making m = { observed, &plan, true, answers_arp(desired, journal, observed) };
	int rc = diff_sorted(want, have, compare, visit, &m);

	if (!rc) {
		reverse(&plan);
		m.removals = false;
		rc = diff_sorted(want, have, compare, visit, &m);
	}
	if (rc) {
		plan_clear(&plan);
		return rc;
	}
	*ret = plan;
	return 0;
}

void plan_hold(struct plan *plan, size_t op, const char *why)
{
	size_t kept = op + 1;

	plan->ops[op].verb = PLAN_CONFLICT;
	snprintf(plan->ops[op].why, sizeof(plan->ops[op].why), "%s", why);
	for (size_t i = kept; i < plan->count; i++) {
		const bool stands =
			plan->ops[i].verb != PLAN_REMOVE && stands_on_conflict(plan, &plan->ops[i].resource);

		if (!stands)
			plan->ops[kept++] = plan->ops[i];
	}
	plan->count = kept;
}

// It, or the device that it stands on, is taken away by this plan.
static bool goes_first(const struct plan *plan, const struct resource *r)
{
	for (size_t i = 0; i < plan->count && plan->ops[i].verb == PLAN_REMOVE; i++) {
		const struct resource *gone = &plan->ops[i].resource;

		if (resource_cmp(gone, r) == 0 || (gone->kind == RESOURCE_DEVICE && strcmp(gone->dev, r->dev) == 0))
			return true;
	}
	return false;
}

void plan_put_off(struct plan *plan)
{
	size_t kept = 0;

	for (size_t i = 0; i < plan->count; i++) {
		const struct plan_op *op = &plan->ops[i];
		const bool makes = op->verb == PLAN_ADD || op->verb == PLAN_REPAIR;

		if (!makes || !goes_first(plan, &op->resource))
			plan->ops[kept++] = *op;
	}
	plan->count = kept;
}

void plan_clear(struct plan *plan)
{
	free(plan->ops);
	*plan = (struct plan) { 0 };
}

size_t plan_changes(const struct plan *plan)
{
	size_t n = 0;

	for (size_t i = 0; i < plan->count; i++)
		n += plan->ops[i].verb != PLAN_CONFLICT;
	return n;
}
