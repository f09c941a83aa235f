// SPDX-License-Identifier: Apache-2.0
#include "director/ipvs_control.h"

#include "shared/netsock.h"

#include <errno.h>
#include <linux/ip_vs.h>
#include <netlink/genl/genl.h>
#include <string.h>

struct ipvs_control {
	struct netsock *sock;
	uint16_t family;
};

static const uint32_t role_states[] = { [IPVS_MASTER] = IP_VS_STATE_MASTER, [IPVS_BACKUP] = IP_VS_STATE_BACKUP };
static_assert(ARRAY_SIZE(role_states) == IPVS_ROLES, "a state of the kernel for every role");

static const int timeout_attrs[] = {
	[IPVS_TIMEOUT_TCP] = IPVS_CMD_ATTR_TIMEOUT_TCP,
	[IPVS_TIMEOUT_TCP_FIN] = IPVS_CMD_ATTR_TIMEOUT_TCP_FIN,
	[IPVS_TIMEOUT_UDP] = IPVS_CMD_ATTR_TIMEOUT_UDP,
};
static_assert(ARRAY_SIZE(timeout_attrs) == IPVS_TIMEOUTS, "an attribute for every timeout");

static struct nla_policy command_policy[IPVS_CMD_ATTR_MAX + 1] = {
	[IPVS_CMD_ATTR_DAEMON] = { .type = NLA_NESTED },
	[IPVS_CMD_ATTR_TIMEOUT_TCP] = { .type = NLA_U32 },
	[IPVS_CMD_ATTR_TIMEOUT_TCP_FIN] = { .type = NLA_U32 },
	[IPVS_CMD_ATTR_TIMEOUT_UDP] = { .type = NLA_U32 },
};

static struct nla_policy info_policy[IPVS_INFO_ATTR_MAX + 1] = {
	[IPVS_INFO_ATTR_VERSION] = { .type = NLA_U32 },
	[IPVS_INFO_ATTR_CONN_TAB_SIZE] = { .type = NLA_U32 },
};

static struct nla_policy daemon_policy[IPVS_DAEMON_ATTR_MAX + 1] = {
	[IPVS_DAEMON_ATTR_STATE] = { .type = NLA_U32 },
	[IPVS_DAEMON_ATTR_MCAST_IFN] = { .type = NLA_STRING, .maxlen = IP_VS_IFNAME_MAXLEN },
	[IPVS_DAEMON_ATTR_SYNC_ID] = { .type = NLA_U32 },
	[IPVS_DAEMON_ATTR_SYNC_MAXLEN] = { .type = NLA_U16 },
	[IPVS_DAEMON_ATTR_MCAST_GROUP] = { .minlen = 4, .maxlen = 4 },
	[IPVS_DAEMON_ATTR_MCAST_GROUP6] = { .minlen = 16, .maxlen = 16 },
	[IPVS_DAEMON_ATTR_MCAST_PORT] = { .type = NLA_U16 },
	[IPVS_DAEMON_ATTR_MCAST_TTL] = { .type = NLA_U8 },
};

int ipvs_control_open(struct ipvs_control **ret, struct err *err)
{
	_cleanup_(ipvs_control_free_cleanup) struct ipvs_control *control = calloc(1, sizeof(*control));

	if (!control)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	int rc = netsock_open(NETLINK_GENERIC, &control->sock, err);

	if (!rc)
		rc = netsock_genl_family(control->sock, IPVS_GENL_NAME, &control->family, err);
	if (!rc)
		*ret = STEAL(control);
	return rc;
}

void ipvs_control_free(struct ipvs_control *control)
{
	if (!control)
		return;
	netsock_free(control->sock);
	free(control);
}

static struct nl_msg *new_message(const struct ipvs_control *control, uint8_t command)
{
	struct nl_msg *msg = nlmsg_alloc_size(512);

	if (msg && !genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, control->family, 0, 0, command, IPVS_GENL_VERSION)) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

// Sends msg, which is freed; each may be NULL.
static int ask(struct ipvs_control *control, struct nl_msg *msg, int (*each)(struct nlmsghdr *hdr, void *ctx),
	void *ctx, struct err *err)
{
	int rc = msg ? netsock_get(control->sock, msg, each, ctx, err) : err_set(err, -ENOMEM, NULL, "out of memory");

	nlmsg_free(msg);
	return rc;
}

static int take_info(struct nlmsghdr *hdr, void *ctx)
{
	struct nlattr *attrs[IPVS_INFO_ATTR_MAX + 1];

	if (genlmsg_parse(hdr, 0, attrs, IPVS_INFO_ATTR_MAX, info_policy) < 0 || !attrs[IPVS_INFO_ATTR_VERSION] ||
		!attrs[IPVS_INFO_ATTR_CONN_TAB_SIZE])
		return -EBADMSG;
	*(struct ipvs_info *)ctx = (struct ipvs_info) { nla_get_u32(attrs[IPVS_INFO_ATTR_VERSION]),
		nla_get_u32(attrs[IPVS_INFO_ATTR_CONN_TAB_SIZE]) };
	return 0;
}

int ipvs_control_info(struct ipvs_control *control, struct ipvs_info *ret, struct err *err)
{
	struct ipvs_info info = { 0 };
	int rc = ask(control, new_message(control, IPVS_CMD_GET_INFO), take_info, &info, err);

	if (!rc)
		*ret = info;
	return rc;
}

static int take_timeouts(struct nlmsghdr *hdr, void *ctx)
{
	struct nlattr *attrs[IPVS_CMD_ATTR_MAX + 1];
	uint32_t *s = ctx;

	if (genlmsg_parse(hdr, 0, attrs, IPVS_CMD_ATTR_MAX, command_policy) < 0)
		return -EBADMSG;
	// a kernel without one of the protocols leaves its timeouts out
	for (size_t i = 0; i < IPVS_TIMEOUTS; i++)
		s[i] = attrs[timeout_attrs[i]] ? nla_get_u32(attrs[timeout_attrs[i]]) : 0;
	return 0;
}

int ipvs_control_timeouts(struct ipvs_control *control, uint32_t ret_s[IPVS_TIMEOUTS], struct err *err)
{
	uint32_t s[IPVS_TIMEOUTS] = { 0 };
	int rc = ask(control, new_message(control, IPVS_CMD_GET_CONFIG), take_timeouts, s, err);

	if (!rc)
		memcpy(ret_s, s, sizeof(s));
	return rc;
}

int ipvs_control_set_timeouts(struct ipvs_control *control, const uint32_t s[IPVS_TIMEOUTS], struct err *err)
{
	struct nl_msg *msg = new_message(control, IPVS_CMD_SET_CONFIG);
	int failed = 0;

	for (size_t i = 0; i < IPVS_TIMEOUTS && msg; i++)
		failed |= nla_put_u32(msg, timeout_attrs[i], s[i]);
	if (failed) {
		nlmsg_free(msg);
		msg = NULL;
	}
	return ask(control, msg, NULL, NULL, err);
}

static int read_daemon(struct nlattr *nested, enum ipvs_role *ret_role, struct ipvs_daemon *ret)
{
	static const int needed[] = { IPVS_DAEMON_ATTR_STATE, IPVS_DAEMON_ATTR_MCAST_IFN, IPVS_DAEMON_ATTR_SYNC_ID };
	struct nlattr *attrs[IPVS_DAEMON_ATTR_MAX + 1];
	struct ipvs_daemon d = { 0 };

	if (!nested || nla_parse_nested(attrs, IPVS_DAEMON_ATTR_MAX, nested, daemon_policy) < 0)
		return -EBADMSG;
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (!attrs[needed[i]])
			return -EBADMSG;
	*ret_role = nla_get_u32(attrs[IPVS_DAEMON_ATTR_STATE]) == IP_VS_STATE_BACKUP ? IPVS_BACKUP : IPVS_MASTER;
	nla_strlcpy(d.interface, attrs[IPVS_DAEMON_ATTR_MCAST_IFN], sizeof(d.interface));
	d.id = nla_get_u32(attrs[IPVS_DAEMON_ATTR_SYNC_ID]);
	// kernels before 4.3 have these fixed and say nothing of them: what is not told stays "not set"
	if (attrs[IPVS_DAEMON_ATTR_SYNC_MAXLEN])
		d.max_length = nla_get_u16(attrs[IPVS_DAEMON_ATTR_SYNC_MAXLEN]);
	if (attrs[IPVS_DAEMON_ATTR_MCAST_GROUP])
		inet_addr_from_bytes(AF_INET, nla_data(attrs[IPVS_DAEMON_ATTR_MCAST_GROUP]), 4, &d.group);
	else if (attrs[IPVS_DAEMON_ATTR_MCAST_GROUP6])
		inet_addr_from_bytes(AF_INET6, nla_data(attrs[IPVS_DAEMON_ATTR_MCAST_GROUP6]), 16, &d.group);
	if (attrs[IPVS_DAEMON_ATTR_MCAST_PORT])
		d.port = nla_get_u16(attrs[IPVS_DAEMON_ATTR_MCAST_PORT]); // host order, unlike every other port
	if (attrs[IPVS_DAEMON_ATTR_MCAST_TTL])
		d.ttl = nla_get_u8(attrs[IPVS_DAEMON_ATTR_MCAST_TTL]);
	*ret = d;
	return 0;
}

static int take_daemon(struct nlmsghdr *hdr, void *ctx)
{
	struct ipvs_daemons *daemons = ctx;
	struct nlattr *attrs[IPVS_CMD_ATTR_MAX + 1];
	struct ipvs_daemon daemon;
	enum ipvs_role role;

	if (genlmsg_parse(hdr, 0, attrs, IPVS_CMD_ATTR_MAX, command_policy) < 0)
		return -EBADMSG;
	int rc = read_daemon(attrs[IPVS_CMD_ATTR_DAEMON], &role, &daemon);
	if (rc)
		return rc;
	daemons->running[role] = true;
	daemons->daemons[role] = daemon;
	return 0;
}

static void forget_daemons(void *ctx)
{
	*(struct ipvs_daemons *)ctx = (struct ipvs_daemons) { 0 };
}

int ipvs_control_daemons(struct ipvs_control *control, struct ipvs_daemons *ret, struct err *err)
{
	struct ipvs_daemons daemons = { 0 };
	struct nl_msg *msg = new_message(control, IPVS_CMD_GET_DAEMON);
	int rc = msg ? netsock_dump(control->sock, msg, take_daemon, forget_daemons, &daemons, err)
		     : err_set(err, -ENOMEM, NULL, "out of memory");

	nlmsg_free(msg);
	if (!rc)
		*ret = daemons;
	return rc;
}

static struct nl_msg *daemon_message(
	const struct ipvs_control *control, uint8_t command, enum ipvs_role role, const struct ipvs_daemon *daemon)
{
	struct nl_msg *msg = new_message(control, command);
	struct nlattr *nest = msg ? nla_nest_start(msg, IPVS_CMD_ATTR_DAEMON) : NULL;
	int failed = nest ? nla_put_u32(msg, IPVS_DAEMON_ATTR_STATE, role_states[role]) : -1;

	if (daemon && !failed) {
		const bool six = daemon->group.family == AF_INET6;

		failed |= nla_put_string(msg, IPVS_DAEMON_ATTR_MCAST_IFN, daemon->interface);
		failed |= nla_put_u32(msg, IPVS_DAEMON_ATTR_SYNC_ID, daemon->id);
		failed |= nla_put_u16(msg, IPVS_DAEMON_ATTR_SYNC_MAXLEN, daemon->max_length);
		failed |= nla_put(msg, six ? IPVS_DAEMON_ATTR_MCAST_GROUP6 : IPVS_DAEMON_ATTR_MCAST_GROUP,
			(int)inet_addr_len(daemon->group.family), daemon->group.bytes);
		failed |= nla_put_u16(msg, IPVS_DAEMON_ATTR_MCAST_PORT, daemon->port);
		failed |= nla_put_u8(msg, IPVS_DAEMON_ATTR_MCAST_TTL, daemon->ttl);
	}
	if (failed) {
		nlmsg_free(msg);
		return NULL;
	}
	nla_nest_end(msg, nest);
	return msg;
}

int ipvs_control_start(
	struct ipvs_control *control, enum ipvs_role role, const struct ipvs_daemon *daemon, struct err *err)
{
	return ask(control, daemon_message(control, IPVS_CMD_NEW_DAEMON, role, daemon), NULL, NULL, err);
}

int ipvs_control_stop(struct ipvs_control *control, enum ipvs_role role, struct err *err)
{
	int rc = ask(control, daemon_message(control, IPVS_CMD_DEL_DAEMON, role, NULL), NULL, NULL, err);

	// kthread_stop() says EINTR of a thread that never ran: it is stopped, and we are not answered
	return rc == -EINTR ? 0 : rc;
}
