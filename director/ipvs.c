// SPDX-License-Identifier: Apache-2.0
#include "director/ipvs.h"

#include "shared/netsock.h"

#include <errno.h>
#include <linux/ip_vs.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ipvs {
	struct netsock *sock;
	struct netsock_batch *batch;
	uint16_t family;
	int walk_family; // of the service whose destinations are walked
	ipvs_refused_fn refused;
	void *refused_ctx;
};

// --- what the kernel may send; a missing attribute is refused, not read as zero ---

static struct nla_policy service_policy[IPVS_SVC_ATTR_MAX + 1] = {
	[IPVS_SVC_ATTR_AF] = { .type = NLA_U16 },
	[IPVS_SVC_ATTR_PROTOCOL] = { .type = NLA_U16 },
	[IPVS_SVC_ATTR_ADDR] = { .minlen = 16, .maxlen = 16 },
	[IPVS_SVC_ATTR_PORT] = { .type = NLA_U16 },
	[IPVS_SVC_ATTR_FWMARK] = { .type = NLA_U32 },
	[IPVS_SVC_ATTR_SCHED_NAME] = { .type = NLA_STRING, .maxlen = IP_VS_SCHEDNAME_MAXLEN },
	[IPVS_SVC_ATTR_FLAGS] = { .minlen = sizeof(struct ip_vs_flags) },
	[IPVS_SVC_ATTR_TIMEOUT] = { .type = NLA_U32 },
	[IPVS_SVC_ATTR_NETMASK] = { .type = NLA_U32 },
	[IPVS_SVC_ATTR_PE_NAME] = { .type = NLA_STRING, .maxlen = IP_VS_PENAME_MAXLEN },
	[IPVS_SVC_ATTR_STATS64] = { .type = NLA_NESTED },
};

static struct nla_policy dest_policy[IPVS_DEST_ATTR_MAX + 1] = {
	[IPVS_DEST_ATTR_ADDR] = { .minlen = 16, .maxlen = 16 },
	[IPVS_DEST_ATTR_PORT] = { .type = NLA_U16 },
	[IPVS_DEST_ATTR_FWD_METHOD] = { .type = NLA_U32 },
	[IPVS_DEST_ATTR_WEIGHT] = { .type = NLA_U32 },
	[IPVS_DEST_ATTR_U_THRESH] = { .type = NLA_U32 },
	[IPVS_DEST_ATTR_L_THRESH] = { .type = NLA_U32 },
	[IPVS_DEST_ATTR_ACTIVE_CONNS] = { .type = NLA_U32 },
	[IPVS_DEST_ATTR_INACT_CONNS] = { .type = NLA_U32 },
	[IPVS_DEST_ATTR_PERSIST_CONNS] = { .type = NLA_U32 },
	[IPVS_DEST_ATTR_ADDR_FAMILY] = { .type = NLA_U16 },
	[IPVS_DEST_ATTR_TUN_TYPE] = { .type = NLA_U8 },
	[IPVS_DEST_ATTR_TUN_PORT] = { .type = NLA_U16 },
	[IPVS_DEST_ATTR_TUN_FLAGS] = { .type = NLA_U16 },
	[IPVS_DEST_ATTR_STATS64] = { .type = NLA_NESTED },
};

static struct nla_policy stats_policy[IPVS_STATS_ATTR_MAX + 1] = {
	[IPVS_STATS_ATTR_CONNS] = { .type = NLA_U64 },
	[IPVS_STATS_ATTR_INPKTS] = { .type = NLA_U64 },
	[IPVS_STATS_ATTR_OUTPKTS] = { .type = NLA_U64 },
	[IPVS_STATS_ATTR_INBYTES] = { .type = NLA_U64 },
	[IPVS_STATS_ATTR_OUTBYTES] = { .type = NLA_U64 },
	[IPVS_STATS_ATTR_CPS] = { .type = NLA_U64 },
	[IPVS_STATS_ATTR_INPPS] = { .type = NLA_U64 },
	[IPVS_STATS_ATTR_OUTPPS] = { .type = NLA_U64 },
	[IPVS_STATS_ATTR_INBPS] = { .type = NLA_U64 },
	[IPVS_STATS_ATTR_OUTBPS] = { .type = NLA_U64 },
};

static int read_stats(struct nlattr *nested, struct ipvs_stats *ret)
{
	const struct {
		int attr;
		size_t offset;
	} rows[] = {
		{ IPVS_STATS_ATTR_CONNS, offsetof(struct ipvs_stats, connections) },
		{ IPVS_STATS_ATTR_INPKTS, offsetof(struct ipvs_stats, in_packets) },
		{ IPVS_STATS_ATTR_OUTPKTS, offsetof(struct ipvs_stats, out_packets) },
		{ IPVS_STATS_ATTR_INBYTES, offsetof(struct ipvs_stats, in_bytes) },
		{ IPVS_STATS_ATTR_OUTBYTES, offsetof(struct ipvs_stats, out_bytes) },
		{ IPVS_STATS_ATTR_CPS, offsetof(struct ipvs_stats, connections_rate) },
		{ IPVS_STATS_ATTR_INPPS, offsetof(struct ipvs_stats, in_packets_rate) },
		{ IPVS_STATS_ATTR_OUTPPS, offsetof(struct ipvs_stats, out_packets_rate) },
		{ IPVS_STATS_ATTR_INBPS, offsetof(struct ipvs_stats, in_bytes_rate) },
		{ IPVS_STATS_ATTR_OUTBPS, offsetof(struct ipvs_stats, out_bytes_rate) },
	};
	struct nlattr *attrs[IPVS_STATS_ATTR_MAX + 1];

	if (nla_parse_nested(attrs, IPVS_STATS_ATTR_MAX, nested, stats_policy) < 0)
		return -EBADMSG;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!attrs[rows[i].attr])
			return -EBADMSG;
		*(uint64_t *)(void *)((char *)ret + rows[i].offset) = nla_get_u64(attrs[rows[i].attr]);
	}
	return 0;
}

// The kernel sends 16 bytes for either family.
static int read_address(int family, struct nlattr *attr, struct inet_addr *ret)
{
	return inet_addr_from_bytes(family, nla_data(attr), inet_addr_len(family), ret);
}

static int read_service(struct nlattr *nested, struct ipvs_service *ret, struct ipvs_stats *stats)
{
	struct nlattr *attrs[IPVS_SVC_ATTR_MAX + 1];
	struct ipvs_service s = { 0 };
	struct ip_vs_flags flags;

	if (!nested || nla_parse_nested(attrs, IPVS_SVC_ATTR_MAX, nested, service_policy) < 0)
		return -EBADMSG;
	if (!attrs[IPVS_SVC_ATTR_AF] || !attrs[IPVS_SVC_ATTR_SCHED_NAME] || !attrs[IPVS_SVC_ATTR_FLAGS] ||
		!attrs[IPVS_SVC_ATTR_TIMEOUT] || !attrs[IPVS_SVC_ATTR_NETMASK] || !attrs[IPVS_SVC_ATTR_STATS64])
		return -EBADMSG;
	int family = nla_get_u16(attrs[IPVS_SVC_ATTR_AF]);

	if (attrs[IPVS_SVC_ATTR_FWMARK]) {
		s.key.fwmark = nla_get_u32(attrs[IPVS_SVC_ATTR_FWMARK]);
		s.key.vip.addr.family = (sa_family_t)family;
	} else {
		if (!attrs[IPVS_SVC_ATTR_PROTOCOL] || !attrs[IPVS_SVC_ATTR_ADDR] || !attrs[IPVS_SVC_ATTR_PORT] ||
			read_address(family, attrs[IPVS_SVC_ATTR_ADDR], &s.key.vip.addr))
			return -EBADMSG;
		s.key.protocol = nla_get_u16(attrs[IPVS_SVC_ATTR_PROTOCOL]);
		s.key.vip.port = ntohs(nla_get_u16(attrs[IPVS_SVC_ATTR_PORT]));
	}
	nla_strlcpy(s.scheduler, attrs[IPVS_SVC_ATTR_SCHED_NAME], sizeof(s.scheduler));
	nla_memcpy(&flags, attrs[IPVS_SVC_ATTR_FLAGS], sizeof(flags));
	s.flags = flags.flags & ~(uint32_t)IP_VS_SVC_F_HASHED;
	s.timeout_s = nla_get_u32(attrs[IPVS_SVC_ATTR_TIMEOUT]);
	s.netmask = nla_get_u32(attrs[IPVS_SVC_ATTR_NETMASK]);
	if (attrs[IPVS_SVC_ATTR_PE_NAME])
		nla_strlcpy(s.engine, attrs[IPVS_SVC_ATTR_PE_NAME], sizeof(s.engine));
	if (stats && read_stats(attrs[IPVS_SVC_ATTR_STATS64], stats))
		return -EBADMSG;
	*ret = s;
	return 0;
}

static int read_dest(struct nlattr *nested, int service_family, struct ipvs_counted *ret)
{
	static const int needed[] = { IPVS_DEST_ATTR_ADDR, IPVS_DEST_ATTR_PORT, IPVS_DEST_ATTR_FWD_METHOD,
		IPVS_DEST_ATTR_WEIGHT, IPVS_DEST_ATTR_U_THRESH, IPVS_DEST_ATTR_L_THRESH, IPVS_DEST_ATTR_ACTIVE_CONNS,
		IPVS_DEST_ATTR_INACT_CONNS, IPVS_DEST_ATTR_PERSIST_CONNS, IPVS_DEST_ATTR_STATS64 };
	struct nlattr *attrs[IPVS_DEST_ATTR_MAX + 1];
	struct ipvs_counted counted = { 0 };
	struct ipvs_dest *d = &counted.dest;

	if (!nested || nla_parse_nested(attrs, IPVS_DEST_ATTR_MAX, nested, dest_policy) < 0)
		return -EBADMSG;
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (!attrs[needed[i]])
			return -EBADMSG;
	// kernels before 3.18 have no family of the destination: it was always the service's
	int family =
		attrs[IPVS_DEST_ATTR_ADDR_FAMILY] ? nla_get_u16(attrs[IPVS_DEST_ATTR_ADDR_FAMILY]) : service_family;

	if (read_address(family, attrs[IPVS_DEST_ATTR_ADDR], &d->to.addr))
		return -EBADMSG;
	d->to.port = ntohs(nla_get_u16(attrs[IPVS_DEST_ATTR_PORT]));
	d->forward = (uint16_t)(nla_get_u32(attrs[IPVS_DEST_ATTR_FWD_METHOD]) & IP_VS_CONN_F_FWD_MASK);
	d->weight = nla_get_u32(attrs[IPVS_DEST_ATTR_WEIGHT]);
	d->upper = nla_get_u32(attrs[IPVS_DEST_ATTR_U_THRESH]);
	d->lower = nla_get_u32(attrs[IPVS_DEST_ATTR_L_THRESH]);
	// kernels before 5.2 have ipip only and say nothing
	if (attrs[IPVS_DEST_ATTR_TUN_TYPE])
		d->tunnel_type = nla_get_u8(attrs[IPVS_DEST_ATTR_TUN_TYPE]);
	if (attrs[IPVS_DEST_ATTR_TUN_PORT])
		d->tunnel_port = ntohs(nla_get_u16(attrs[IPVS_DEST_ATTR_TUN_PORT]));
	if (attrs[IPVS_DEST_ATTR_TUN_FLAGS])
		d->tunnel_flags = nla_get_u16(attrs[IPVS_DEST_ATTR_TUN_FLAGS]);
	counted.active = nla_get_u32(attrs[IPVS_DEST_ATTR_ACTIVE_CONNS]);
	counted.inactive = nla_get_u32(attrs[IPVS_DEST_ATTR_INACT_CONNS]);
	counted.persistent = nla_get_u32(attrs[IPVS_DEST_ATTR_PERSIST_CONNS]);
	if (read_stats(attrs[IPVS_DEST_ATTR_STATS64], &counted.stats))
		return -EBADMSG;
	*ret = counted;
	return 0;
}

// --- building ---

static int put_address(struct nl_msg *msg, int attr, const struct inet_addr *addr)
{
	return nla_put(msg, attr, sizeof(addr->bytes), addr->bytes);
}

static int put_key(struct nl_msg *msg, const struct ipvs_key *key)
{
	int rc = nla_put_u16(msg, IPVS_SVC_ATTR_AF, key->vip.addr.family);

	if (key->fwmark)
		return rc | nla_put_u32(msg, IPVS_SVC_ATTR_FWMARK, key->fwmark);
	rc |= nla_put_u16(msg, IPVS_SVC_ATTR_PROTOCOL, (uint16_t)key->protocol);
	rc |= put_address(msg, IPVS_SVC_ATTR_ADDR, &key->vip.addr);
	return rc | nla_put_u16(msg, IPVS_SVC_ATTR_PORT, htons(key->vip.port));
}

static struct nl_msg *new_message(const struct ipvs *ipvs, uint8_t command, int flags)
{
	struct nl_msg *msg = nlmsg_alloc_size(1024);

	if (msg && !genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, ipvs->family, 0, flags, command, IPVS_GENL_VERSION)) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

static struct nl_msg *service_message(
	const struct ipvs *ipvs, uint8_t command, const struct ipvs_service *service, bool whole)
{
	struct nl_msg *msg = new_message(ipvs, command, 0);
	struct nlattr *nest = msg ? nla_nest_start(msg, IPVS_CMD_ATTR_SERVICE) : NULL;
	const struct ip_vs_flags flags = { .flags = service->flags, .mask = ~0u };
	int rc = nest ? put_key(msg, &service->key) : -1;

	if (whole && !rc) {
		rc |= nla_put_string(msg, IPVS_SVC_ATTR_SCHED_NAME, service->scheduler);
		rc |= nla_put(msg, IPVS_SVC_ATTR_FLAGS, sizeof(flags), &flags);
		rc |= nla_put_u32(msg, IPVS_SVC_ATTR_TIMEOUT, service->timeout_s);
		rc |= nla_put_u32(msg, IPVS_SVC_ATTR_NETMASK, service->netmask);
		if (*service->engine)
			rc |= nla_put_string(msg, IPVS_SVC_ATTR_PE_NAME, service->engine);
	}
	if (rc) {
		nlmsg_free(msg);
		return NULL;
	}
	nla_nest_end(msg, nest);
	return msg;
}

static struct nl_msg *dest_message(
	const struct ipvs *ipvs, uint8_t command, const struct ipvs_key *key, const struct ipvs_dest *dest, bool whole)
{
	const struct ipvs_service service = { .key = *key };
	struct nl_msg *msg = service_message(ipvs, command, &service, false);
	struct nlattr *nest = msg ? nla_nest_start(msg, IPVS_CMD_ATTR_DEST) : NULL;

	if (!nest)
		return NULL;
	int rc = nla_put_u16(msg, IPVS_DEST_ATTR_ADDR_FAMILY, dest->to.addr.family);

	rc |= put_address(msg, IPVS_DEST_ATTR_ADDR, &dest->to.addr);
	rc |= nla_put_u16(msg, IPVS_DEST_ATTR_PORT, htons(dest->to.port));
	if (whole) {
		rc |= nla_put_u32(msg, IPVS_DEST_ATTR_FWD_METHOD, dest->forward);
		rc |= nla_put_u32(msg, IPVS_DEST_ATTR_WEIGHT, dest->weight);
		rc |= nla_put_u32(msg, IPVS_DEST_ATTR_U_THRESH, dest->upper);
		rc |= nla_put_u32(msg, IPVS_DEST_ATTR_L_THRESH, dest->lower);
	}
	if (whole && dest->forward == IP_VS_CONN_F_TUNNEL) {
		rc |= nla_put_u8(msg, IPVS_DEST_ATTR_TUN_TYPE, dest->tunnel_type);
		rc |= nla_put_u16(msg, IPVS_DEST_ATTR_TUN_PORT, htons(dest->tunnel_port));
		rc |= nla_put_u16(msg, IPVS_DEST_ATTR_TUN_FLAGS, dest->tunnel_flags);
	}
	if (rc) {
		nlmsg_free(msg);
		return NULL;
	}
	nla_nest_end(msg, nest);
	return msg;
}

static int queue(struct ipvs *ipvs, struct nl_msg *msg, void *cookie)
{
	if (!msg)
		return -ENOMEM;
	int rc = netsock_batch_add(ipvs->batch, msg, cookie);

	nlmsg_free(msg);
	return rc;
}

int ipvs_service_change(struct ipvs *ipvs, enum ipvs_verb verb, const struct ipvs_service *service, void *cookie)
{
	static const uint8_t commands[] = {
		[IPVS_ADD] = IPVS_CMD_NEW_SERVICE,
		[IPVS_SET] = IPVS_CMD_SET_SERVICE,
		[IPVS_DEL] = IPVS_CMD_DEL_SERVICE,
	};

	return queue(ipvs, service_message(ipvs, commands[verb], service, verb != IPVS_DEL), cookie);
}

int ipvs_dest_change(
	struct ipvs *ipvs, enum ipvs_verb verb, const struct ipvs_key *key, const struct ipvs_dest *dest, void *cookie)
{
	static const uint8_t commands[] = {
		[IPVS_ADD] = IPVS_CMD_NEW_DEST,
		[IPVS_SET] = IPVS_CMD_SET_DEST,
		[IPVS_DEL] = IPVS_CMD_DEL_DEST,
	};

	return queue(ipvs, dest_message(ipvs, commands[verb], key, dest, verb != IPVS_DEL), cookie);
}

int ipvs_flush(struct ipvs *ipvs)
{
	return netsock_batch_flush(ipvs->batch);
}

// --- dumps ---

static int list_service(struct nlmsghdr *hdr, void *list)
{
	struct nlattr *attrs[IPVS_CMD_ATTR_MAX + 1];
	struct ipvs_service service;

	if (genlmsg_parse(hdr, 0, attrs, IPVS_CMD_ATTR_MAX, NULL) < 0)
		return -EBADMSG;
	int rc = read_service(attrs[IPVS_CMD_ATTR_SERVICE], &service, NULL);

	return rc ? rc : netsock_list_add(list, &service);
}

struct dest_list {
	struct netsock_list list; // first: it is what the dump hands on
	int family;               // of the service
};

static int list_dest(struct nlmsghdr *hdr, void *ctx)
{
	struct dest_list *dests = ctx;
	struct nlattr *attrs[IPVS_CMD_ATTR_MAX + 1];
	struct ipvs_counted dest;

	if (genlmsg_parse(hdr, 0, attrs, IPVS_CMD_ATTR_MAX, NULL) < 0)
		return -EBADMSG;
	int rc = read_dest(attrs[IPVS_CMD_ATTR_DEST], dests->family, &dest);

	return rc ? rc : netsock_list_add(&dests->list, &dest);
}

static int dump(struct ipvs *ipvs, struct nl_msg *msg, int (*each)(struct nlmsghdr *hdr, void *list),
	struct netsock_list *list, struct err *err)
{
	if (!msg)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	int rc = netsock_dump_list(ipvs->sock, msg, each, list, err);

	nlmsg_free(msg);
	if (rc) {
		free(list->items);
		err_context(err, "cannot read the kernel's IPVS table: ");
	}
	return rc;
}

int ipvs_dump_services(struct ipvs *ipvs, struct ipvs_service **ret, size_t *ret_count, struct err *err)
{
	struct netsock_list list = { .size = sizeof(struct ipvs_service) };
	int rc = dump(ipvs, new_message(ipvs, IPVS_CMD_GET_SERVICE, 0), list_service, &list, err);

	if (rc)
		return rc;
	*ret = list.items;
	*ret_count = list.count;
	return 0;
}

static int by_endpoint(const void *a, const void *b)
{
	return ipvs_dest_cmp(&((const struct ipvs_counted *)a)->dest, &((const struct ipvs_counted *)b)->dest);
}

int ipvs_dump_dests(
	struct ipvs *ipvs, const struct ipvs_key *key, struct ipvs_counted **ret, size_t *ret_count, struct err *err)
{
	struct dest_list dests = { .list.size = sizeof(struct ipvs_counted), .family = key->vip.addr.family };
	const struct ipvs_service service = { .key = *key };
	int rc = dump(ipvs, service_message(ipvs, IPVS_CMD_GET_DEST, &service, false), list_dest, &dests.list, err);

	if (rc)
		return rc;
	sort_items(dests.list.items, dests.list.count, sizeof(struct ipvs_counted), by_endpoint);
	*ret = dests.list.items;
	*ret_count = dests.list.count;
	return 0;
}

// --- piece by piece ---

int ipvs_walk_start(struct ipvs *ipvs, const struct ipvs_key *key, struct err *err)
{
	const struct ipvs_service service = { .key = *key };
	struct nl_msg *msg = service_message(ipvs, IPVS_CMD_GET_DEST, &service, false);
	int rc = msg ? netsock_dump_start(ipvs->sock, msg, err) : err_set(err, -ENOMEM, NULL, "out of memory");

	nlmsg_free(msg);
	ipvs->walk_family = key->vip.addr.family;
	return rc;
}

struct walk {
	const struct ipvs *ipvs;
	void (*each)(void *ctx, const struct ipvs_counted *counted);
	void *ctx;
};

static int walk_dest(struct nlmsghdr *hdr, void *ctx)
{
	const struct walk *walk = ctx;
	struct nlattr *attrs[IPVS_CMD_ATTR_MAX + 1];
	struct ipvs_counted dest;

	if (genlmsg_parse(hdr, 0, attrs, IPVS_CMD_ATTR_MAX, NULL) < 0)
		return -EBADMSG;
	int rc = read_dest(attrs[IPVS_CMD_ATTR_DEST], walk->ipvs->walk_family, &dest);
	if (!rc)
		walk->each(walk->ctx, &dest);
	return rc;
}

int ipvs_walk_next(
	struct ipvs *ipvs, void (*each)(void *ctx, const struct ipvs_counted *counted), void *ctx, struct err *err)
{
	return netsock_dump_next(ipvs->sock, walk_dest, &(struct walk) { ipvs, each, ctx }, err);
}

struct found_service {
	struct ipvs_service service;
	struct ipvs_stats stats;
};

static int take_service(struct nlmsghdr *hdr, void *ctx)
{
	struct found_service *found = ctx;
	struct nlattr *attrs[IPVS_CMD_ATTR_MAX + 1];

	if (genlmsg_parse(hdr, 0, attrs, IPVS_CMD_ATTR_MAX, NULL) < 0)
		return -EBADMSG;
	return read_service(attrs[IPVS_CMD_ATTR_SERVICE], &found->service, &found->stats);
}

int ipvs_get_service(struct ipvs *ipvs, const struct ipvs_key *key, struct ipvs_service *ret, struct ipvs_stats *stats,
	struct err *err)
{
	const struct ipvs_service service = { .key = *key };
	struct nl_msg *msg = service_message(ipvs, IPVS_CMD_GET_SERVICE, &service, false);
	struct found_service found = { 0 };
	int rc = msg ? netsock_get(ipvs->sock, msg, take_service, &found, err) : -ENOMEM;

	nlmsg_free(msg);
	if (rc)
		return rc;
	*ret = found.service;
	if (stats)
		*stats = found.stats;
	return 0;
}

// --- life cycle and comparison ---

static void on_refused(void *ctx, void *cookie, int error, const struct err *why)
{
	struct ipvs *ipvs = ctx;

	if (ipvs->refused)
		ipvs->refused(ipvs->refused_ctx, cookie, error, why);
}

int ipvs_open(struct ipvs **ret, struct err *err)
{
	_cleanup_(ipvs_free_cleanup) struct ipvs *ipvs = calloc(1, sizeof(*ipvs));

	if (!ipvs)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	int rc = netsock_open(NETLINK_GENERIC, &ipvs->sock, err);
	if (rc)
		return rc;
	rc = netsock_genl_family(ipvs->sock, IPVS_GENL_NAME, &ipvs->family, err);
	if (rc == -ENOENT)
		return err_set(err, rc, NULL,
			"the kernel has no IPVS: load it with \"modprobe ip_vs\" (Debian's kernels have the module)");
	if (rc)
		return rc;
	rc = netsock_batch_new(ipvs->sock, on_refused, ipvs, &ipvs->batch);
	if (rc)
		return err_set(err, rc, NULL, "out of memory");
	*ret = STEAL(ipvs);
	return 0;
}

void ipvs_free(struct ipvs *ipvs)
{
	if (!ipvs)
		return;
	netsock_batch_free(ipvs->batch);
	netsock_free(ipvs->sock);
	free(ipvs);
}

void ipvs_on_refused(struct ipvs *ipvs, ipvs_refused_fn refused, void *ctx)
{
	ipvs->refused = refused;
	ipvs->refused_ctx = ctx;
}

size_t ipvs_messages(const struct ipvs *ipvs)
{
	return netsock_batch_sent(ipvs->batch);
}

int ipvs_dest_cmp(const struct ipvs_dest *a, const struct ipvs_dest *b)
{
	return inet_endpoint_cmp(&a->to, &b->to);
}

bool ipvs_service_same(const struct ipvs_service *a, const struct ipvs_service *b)
{
	return strcmp(a->scheduler, b->scheduler) == 0 && a->flags == b->flags && a->timeout_s == b->timeout_s &&
		a->netmask == b->netmask && strcmp(a->engine, b->engine) == 0;
}

bool ipvs_dest_same(const struct ipvs_dest *a, const struct ipvs_dest *b)
{
	return a->forward == b->forward && a->weight == b->weight && a->upper == b->upper && a->lower == b->lower &&
		a->tunnel_type == b->tunnel_type && a->tunnel_port == b->tunnel_port &&
		a->tunnel_flags == b->tunnel_flags;
}
