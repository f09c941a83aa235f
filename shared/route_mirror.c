// SPDX-License-Identifier: Apache-2.0
// Every route becomes the message that would make its copy; two sorted lists of messages are compared byte by byte.
#include "shared/route_mirror.h"

#include "shared/diff.h"
#include "shared/route.h"
#include "shared/util.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct reading {
	uint32_t table, advmss;
	bool is_main, is_learnt; // the table; the route at hand
	struct route_copy **items;
	size_t count, room;
};

static int add(struct reading *r, const struct nl_msg *msg)
{
	const struct nlmsghdr *hdr = nlmsg_hdr((struct nl_msg *)(uintptr_t)msg);
	const uint32_t len = (uint32_t)nlmsg_datalen(hdr);
	struct route_copy *copy = malloc(sizeof(*copy) + len);

	if (r->count == r->room) {
		size_t room = r->room ? 2 * r->room : 32;
		struct route_copy **items = reallocarray(r->items, room, sizeof(struct route_copy *));

		if (items) {
			r->items = items;
			r->room = room;
		}
	}
	if (!copy || r->count == r->room) {
		free(copy);
		return -ENOMEM;
	}
	copy->len = len;
	memcpy(copy->bytes, nlmsg_data(hdr), len);
	r->items[r->count++] = copy;
	return 0;
}

static bool is_copied(const struct rtmsg *head)
{
	switch (head->rtm_type) {
	case RTN_UNICAST:
	case RTN_BLACKHOLE:
	case RTN_UNREACHABLE:
	case RTN_PROHIBIT:
	case RTN_THROW:
		return !(head->rtm_flags & RTM_F_CLONED);
	default:
		return false;
	}
}

// All metrics as they are, but the MSS: the smaller of the route's own and ours.
static int put_metrics(struct nl_msg *msg, const struct nlattr *from, uint32_t advmss)
{
	struct nlattr *metrics[RTAX_MAX + 1] = { NULL };
	struct nlattr *nest = nla_nest_start(msg, RTA_METRICS);
	uint32_t mss = advmss;

	if (!nest || (from && nla_parse_nested(metrics, RTAX_MAX, (struct nlattr *)(uintptr_t)from, NULL) < 0))
		return -ENOMEM;
	for (int i = 1; i <= RTAX_MAX; i++) {
		if (i == RTAX_ADVMSS) {
			const uint32_t own = metrics[i] ? nla_get_u32(metrics[i]) : 0;

			mss = own && own < mss ? own : mss;
			if (nla_put_u32(msg, i, mss))
				return -ENOMEM;
		} else if (metrics[i] && nla_put(msg, i, nla_len(metrics[i]), nla_data(metrics[i]))) {
			return -ENOMEM;
		}
	}
	nla_nest_end(msg, nest);
	return 0;
}

// The kernel refuses a next hop whose device is down. It gets into the copy when it is back.
static bool is_left_out(const struct reading *r, const struct rtnexthop *hop)
{
	return r->is_main && hop->rtnh_flags & RTNH_F_DEAD;
}

// What the kernel has learnt of the next hops goes.
static int put_next_hops(const struct reading *r, struct nl_msg *msg, const struct nlattr *from)
{
	struct nlattr *nest = nla_nest_start(msg, RTA_MULTIPATH);
	const struct rtnexthop *hop = nla_data(from);

	for (int left = nla_len(from); nest && RTNH_OK(hop, left); hop = RTNH_NEXT(hop)) {
		struct rtnexthop *copied = nlmsg_tail(nlmsg_hdr(msg));

		left -= RTNH_ALIGN(hop->rtnh_len);
		if (is_left_out(r, hop))
			continue;
		if (nlmsg_append(msg, (void *)(uintptr_t)hop, hop->rtnh_len, RTNH_ALIGNTO))
			return -ENOMEM;
		copied->rtnh_flags &= RTNH_F_ONLINK;
	}
	return nest && nla_nest_end(msg, nest) == 0 ? 0 : -ENOMEM;
}

// One of several next hops, as the kernel prints the only one of a route (fib_nexthop_info in its
// net/ipv4/fib_semantics.c).
static int put_one_hop(struct nl_msg *msg, const struct rtnexthop *hop)
{
	struct nlattr *const first = (struct nlattr *)(uintptr_t)(hop + 1);
	const int len = hop->rtnh_len - (int)sizeof(*hop);
	struct nlattr *attr;
	int rest, rc = 0;

	nla_for_each_attr(
		attr, first, len, rest) if (!rc && (nla_type(attr) == RTA_GATEWAY || nla_type(attr) == RTA_VIA)) rc =
		nla_put(msg, nla_type(attr), nla_len(attr), nla_data(attr));
	if (!rc)
		rc = nla_put_u32(msg, RTA_OIF, (uint32_t)hop->rtnh_ifindex);
	nla_for_each_attr(attr, first, len, rest) if (!rc && nla_type(attr) != RTA_GATEWAY && nla_type(attr) != RTA_VIA)
		rc = nla_put(msg, nla_type(attr), nla_len(attr), nla_data(attr));
	return rc;
}

// hop: the only one of several that is copied; NULL: all.
static int put_attr(const struct reading *r, struct nl_msg *msg, const struct nlattr *attr, bool by_object,
	const struct rtnexthop *hop)
{
	switch (nla_type(attr)) {
	case RTA_TABLE:     // the copy has its own
	case RTA_METRICS:   // follow
	case RTA_CACHEINFO: // learnt
	case RTA_EXPIRES:   // when the original goes, so does the copy
	case RTA_SESSION:
	case RTA_UID:
		return 0;
	case RTA_GATEWAY:
	case RTA_VIA:
	case RTA_OIF:
	case RTA_ENCAP:
	case RTA_ENCAP_TYPE:
		if (by_object) // the object says so
			return 0;
		break;
	case RTA_PREF: // copies are not learnt of routers, and the kernel shows one preference for all of equal metric
		return nla_put_u8(msg, RTA_PREF, r->is_learnt ? 0 : nla_get_u8(attr));
	case RTA_MULTIPATH:
		return by_object ? 0 : hop ? put_one_hop(msg, hop) : put_next_hops(r, msg, attr);
	default:
		break;
	}
	return nla_put(msg, nla_type(attr), nla_len(attr), nla_data(attr));
}

static int copy(
	struct reading *r, struct nlmsghdr *hdr, struct rtmsg head, struct nlattr *attrs[], const struct rtnexthop *hop)
{
	struct nlattr *attr;
	int rest;

	if (r->count >= ROUTE_MIRROR_MAX)
		return -E2BIG;
	head.rtm_table = RT_TABLE_UNSPEC;
	head.rtm_protocol = ROUTE_PROTO_BRASS;
	head.rtm_flags &= RTNH_F_ONLINK;
	if (hop)
		head.rtm_flags |= hop->rtnh_flags & RTNH_F_ONLINK;
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_NEWROUTE, 0);
	int rc = !msg || nlmsg_append(msg, &head, sizeof(head), NLMSG_ALIGNTO) ? -ENOMEM : 0;

	nlmsg_for_each_attr(attr, hdr, sizeof(head), rest) if (!rc) rc =
		put_attr(r, msg, attr, attrs[RTA_NH_ID] != NULL, hop);
	if (!rc) // as it stands in our table; in "main" as it shall stand there
		rc = put_metrics(msg, attrs[RTA_METRICS], r->is_main ? r->advmss : UINT32_MAX);
	if (!rc)
		rc = add(r, msg);
	nlmsg_free(msg);
	return rc;
}

// IPv6 keeps a next hop as a route of its own, and shows those of equal metric as one; but not if it has learnt them of
// routers (rt6_qualify_for_ecmp in net/ipv6/route.c), which is not so of their copies. So they are compared one by one,
// unless they have shares, which one alone cannot have.
static bool is_compared_by_hop(const struct rtmsg *head, struct nlattr *attrs[])
{
	if (head->rtm_family != AF_INET6 || !attrs[RTA_MULTIPATH] || attrs[RTA_NH_ID])
		return false;
	const struct rtnexthop *hop = nla_data(attrs[RTA_MULTIPATH]);

	for (int left = nla_len(attrs[RTA_MULTIPATH]); RTNH_OK(hop, left); hop = RTNH_NEXT(hop)) {
		if (hop->rtnh_hops)
			return false;
		left -= RTNH_ALIGN(hop->rtnh_len);
	}
	return true;
}

static int copy_hops(struct reading *r, struct nlmsghdr *hdr, const struct rtmsg *head, struct nlattr *attrs[])
{
	const struct rtnexthop *hop = nla_data(attrs[RTA_MULTIPATH]);
	int rc = 0;

	for (int left = nla_len(attrs[RTA_MULTIPATH]); RTNH_OK(hop, left) && !rc; hop = RTNH_NEXT(hop)) {
		rc = is_left_out(r, hop) ? 0 : copy(r, hdr, *head, attrs, hop);
		left -= RTNH_ALIGN(hop->rtnh_len);
	}
	return rc;
}

// The only one of several that is not left out, NULL: there are more.
static const struct rtnexthop *only_hop(const struct reading *r, const struct nlattr *hops)
{
	const struct rtnexthop *only = NULL, *hop = nla_data(hops);

	for (int left = nla_len(hops); RTNH_OK(hop, left); hop = RTNH_NEXT(hop)) {
		left -= RTNH_ALIGN(hop->rtnh_len);
		if (is_left_out(r, hop))
			continue;
		if (only)
			return NULL;
		only = hop;
	}
	return only;
}

static int take(struct nlmsghdr *hdr, void *ctx)
{
	struct reading *r = ctx;
	const struct rtmsg head = *(const struct rtmsg *)nlmsg_data(hdr);
	struct nlattr *attrs[RTA_MAX + 1];

	if (hdr->nlmsg_type != RTM_NEWROUTE || nlmsg_parse(hdr, sizeof(head), attrs, RTA_MAX, NULL) < 0)
		return -EBADMSG;
	const uint32_t table = attrs[RTA_TABLE] ? nla_get_u32(attrs[RTA_TABLE]) : head.rtm_table;

	if (table != r->table || !is_copied(&head) || (!r->is_main && head.rtm_protocol != ROUTE_PROTO_BRASS))
		return 0;
	r->is_learnt = r->is_main && head.rtm_protocol == RTPROT_RA;
	if (is_compared_by_hop(&head, attrs))
		return copy_hops(r, hdr, &head, attrs);
	const bool has_hops = attrs[RTA_MULTIPATH] && !attrs[RTA_NH_ID];

	return copy(r, hdr, head, attrs, has_hops ? only_hop(r, attrs[RTA_MULTIPATH]) : NULL);
}

static void forget(void *ctx)
{
	struct reading *r = ctx;

	for (size_t i = 0; i < r->count; i++)
		free(r->items[i]);
	r->count = 0;
}

static void clear(struct reading *r)
{
	forget(r);
	free(r->items);
}

static int by_bytes(const void *a, const void *b)
{
	const struct route_copy *left = *(struct route_copy *const *)a, *right = *(struct route_copy *const *)b;
	const uint32_t len = left->len < right->len ? left->len : right->len;
	int c = memcmp(left->bytes, right->bytes, len);

	return c ? c : (left->len > right->len) - (left->len < right->len);
}

// "main" may have one route twice, of two protocols; copies of both would be the same, and one table takes one of them.
static void drop_doubles(struct reading *r)
{
	size_t kept = 0;

	for (size_t i = 0; i < r->count; i++) {
		if (kept && by_bytes(&r->items[kept - 1], &r->items[i]) == 0)
			free(r->items[i]);
		else
			r->items[kept++] = r->items[i];
	}
	r->count = kept;
}

static int read_table(struct netsock *ns, int family, struct reading *r, struct err *err)
{
	const struct rtmsg head = { .rtm_family = (uint8_t)family };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETROUTE, 0);
	int rc = !msg || nlmsg_append(msg, (void *)(uintptr_t)&head, sizeof(head), NLMSG_ALIGNTO) ||
			nla_put_u32(msg, RTA_TABLE, r->table)
		? err_set(err, -ENOMEM, NULL, "out of memory")
		: netsock_dump(ns, msg, take, forget, r, err);

	nlmsg_free(msg);
	if (rc == -ENOENT)
		rc = 0; // no route was ever in it
	sort_items(r->items, r->count, sizeof(struct route_copy *), by_bytes);
	drop_doubles(r);
	return rc;
}

static int visit(void *ctx, const void *want, const void *have)
{
	struct route_mirror *m = ctx;

	if (want && have)
		return 0;
	struct route_copy *copy = *(struct route_copy *const *)(want ? want : have);
	struct route_copy *owned = malloc(sizeof(*owned) + copy->len);

	if (!owned)
		return -ENOMEM;
	memcpy(owned, copy, sizeof(*owned) + copy->len);
	if (want)
		m->missing[m->missing_count++] = owned;
	else
		m->extra[m->extra_count++] = owned;
	return 0;
}

int route_mirror_read(
	struct netsock *ns, int family, uint32_t table, uint32_t advmss, struct route_mirror *ret, struct err *err)
{
	struct reading from = { .table = RT_TABLE_MAIN, .advmss = advmss, .is_main = true };
	struct reading to = { .table = table };
	struct route_mirror m = { .family = family, .table = table, .advmss = advmss };
	int rc = advmss ? read_table(ns, family, &from, err) : 0;

	if (rc == -E2BIG)
		err_set(err, rc, NULL, "the main table has more than %d routes", ROUTE_MIRROR_MAX);
	if (!rc)
		rc = read_table(ns, family, &to, err);
	m.missing = calloc(from.count + 1, sizeof(*m.missing));
	m.extra = calloc(to.count + 1, sizeof(*m.extra));
	if (!rc &&
		(!m.missing || !m.extra ||
			diff_sorted((struct diff_list) { from.items, from.count, sizeof(struct route_copy *) },
				(struct diff_list) { to.items, to.count, sizeof(struct route_copy *) }, by_bytes, visit,
				&m)))
		rc = err_set(err, -ENOMEM, NULL, "out of memory");
	clear(&from);
	clear(&to);
	if (rc)
		route_mirror_clear(&m);
	else
		*ret = m;
	return rc;
}

static int change(
	struct netsock *ns, const struct route_mirror *m, int type, const struct route_copy *copy, struct err *err)
{
	struct nl_msg *msg = nlmsg_alloc_simple(type, type == RTM_NEWROUTE ? NLM_F_CREATE | NLM_F_APPEND : 0);
	int rc = !msg || nlmsg_append(msg, (void *)(uintptr_t)copy->bytes, copy->len, NLMSG_ALIGNTO) ||
			nla_put_u32(msg, RTA_TABLE, m->table)
		? err_set(err, -ENOMEM, NULL, "out of memory")
		: netsock_transact(ns, msg, err);

	nlmsg_free(msg);
	return rc;
}

// The order in which "main" was filled is not known: a gateway's own route must come first (net/ipv4/fib_semantics.c,
// fib_check_nh). So what is refused is tried again when the others are there.
static int add_missing(struct netsock *ns, const struct route_mirror *m, struct err *err)
{
	_cleanup_free_ bool *done = calloc(m->missing_count + 1, sizeof(*done));
	size_t left = m->missing_count, before;
	struct err why = { 0 };
	int rc = 0;

	if (!done)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	do {
		before = left;
		rc = 0;
		for (size_t i = 0; i < m->missing_count; i++) {
			int one = done[i] ? 0 : change(ns, m, RTM_NEWROUTE, m->missing[i], &why);

			if (!one || one == -EEXIST) {
				left -= !done[i];
				done[i] = true;
			} else if (!rc) {
				rc = one;
			}
		}
	} while (left && left < before);
	if (rc && err)
		*err = why;
	return rc;
}

int route_mirror_apply(struct netsock *ns, const struct route_mirror *m, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; i < m->extra_count; i++) {
		int one = change(ns, m, RTM_DELROUTE, m->extra[i], err);

		if (one && one != -ESRCH && !rc)
			rc = one;
	}
	int added = add_missing(ns, m, err);

	return rc ? rc : added;
}

void route_mirror_clear(struct route_mirror *m)
{
	for (size_t i = 0; i < m->missing_count; i++)
		free(m->missing[i]);
	for (size_t i = 0; i < m->extra_count; i++)
		free(m->extra[i]);
	free(m->missing);
	free(m->extra);
	*m = (struct route_mirror) { 0 };
}
