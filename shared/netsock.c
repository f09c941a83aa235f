// SPDX-License-Identifier: Apache-2.0
// libnl opens the socket and builds messages; sending, numbering and reading answers are ours, because a batch needs
// many messages in one sendmsg(2) and an answer for each by its number.
#include "shared/netsock.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/genl/genl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#define BUFFER_SIZE (64u << 10)
#define RECEIVE_SPACE (4 << 20) // bytes of socket buffer asked for
#define SEND_SPACE (256 << 10)  // libnl sets 32 KiB, and the kernel refuses a message that is larger than its buffer
#define DUMP_ATTEMPTS 10

struct netsock {
	struct nl_sock *nl;
	int fd;
	uint32_t seq;
	struct dump_state {
		bool interrupted;
		int failed; // -errno of `each`
	} dump;
	char *buffer; // BUFFER_SIZE, for receiving
};

static int open_socket(int protocol, struct netsock **ret, struct err *err)
{
	_cleanup_(netsock_free_cleanup) struct netsock *ns = calloc(1, sizeof(*ns));
	int one = 1, space = RECEIVE_SPACE, send_space = SEND_SPACE;

	if (!ns || !(ns->buffer = malloc(BUFFER_SIZE)) || !(ns->nl = nl_socket_alloc()))
		return err_set(err, -ENOMEM, NULL, "out of memory");
	errno = 0;
	int rc = nl_connect(ns->nl, protocol);
	if (rc < 0)
		return err_set(
			err, errno ? -errno : -EPROTO, NULL, "cannot open a netlink socket: %s", nl_geterror(rc));
	ns->fd = nl_socket_get_fd(ns->nl);
	setsockopt(ns->fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one));
	setsockopt(ns->fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
	// dumps are filtered by the kernel: one routing table instead of all
	setsockopt(ns->fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof(one));
	// FORCE needs CAP_NET_ADMIN, which we need anyway; without it the system's limits hold
	if (setsockopt(ns->fd, SOL_SOCKET, SO_RCVBUFFORCE, &space, sizeof(space)))
		setsockopt(ns->fd, SOL_SOCKET, SO_RCVBUF, &space, sizeof(space));
	if (setsockopt(ns->fd, SOL_SOCKET, SO_SNDBUFFORCE, &send_space, sizeof(send_space)))
		setsockopt(ns->fd, SOL_SOCKET, SO_SNDBUF, &send_space, sizeof(send_space));
	*ret = STEAL(ns);
	return 0;
}

int netsock_open(int protocol, struct netsock **ret, struct err *err)
{
	return open_socket(protocol, ret, err);
}

void netsock_free(struct netsock *ns)
{
	if (!ns)
		return;
	nl_socket_free(ns->nl);
	free(ns->buffer);
	free(ns);
}

int netsock_fd(const struct netsock *ns)
{
	return ns->fd;
}

// Receives one datagram into ns->buffer. Returns its length or -errno.
static int receive(struct netsock *ns, int flags)
{
	ssize_t n;

	do
		n = recv(ns->fd, ns->buffer, BUFFER_SIZE, flags | MSG_TRUNC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n > (ssize_t)BUFFER_SIZE ? -EMSGSIZE : (int)n;
}

static int send_buffer(struct netsock *ns, const void *data, size_t len)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	ssize_t n;

	do
		n = sendto(ns->fd, data, len, 0, (const struct sockaddr *)&kernel, sizeof(kernel));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EMSGSIZE;
}

int netsock_error(const struct nlmsghdr *hdr, struct err *err)
{
	const struct nlmsgerr *e = nlmsg_data(hdr);
	struct nlattr *attrs[NLMSGERR_ATTR_MAX + 1] = { NULL };
	const char *text = NULL;

	if (hdr->nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
		return err_set(err, -EBADMSG, NULL, "the kernel's answer is too short");
	if (!e->error)
		return 0;
	if (hdr->nlmsg_flags & NLM_F_ACK_TLVS) {
		// with NETLINK_CAP_ACK the refused message's payload is left out
		size_t skip = NLMSG_LENGTH(sizeof(*e)) +
			(hdr->nlmsg_flags & NLM_F_CAPPED ? 0 : e->msg.nlmsg_len - NLMSG_HDRLEN);

		if (skip < hdr->nlmsg_len &&
			nla_parse(attrs, NLMSGERR_ATTR_MAX, (struct nlattr *)((char *)(uintptr_t)hdr + skip),
				(int)(hdr->nlmsg_len - skip), NULL) == 0 &&
			attrs[NLMSGERR_ATTR_MSG])
			text = nla_get_string(attrs[NLMSGERR_ATTR_MSG]);
	}
	if (text)
		return err_set(err, e->error, NULL, "%s (%s)", text, strerror(-e->error));
	return err_set(err, e->error, NULL, "%s", strerror(-e->error));
}

static void number(struct netsock *ns, struct nlmsghdr *hdr, int flags)
{
	hdr->nlmsg_seq = ++ns->seq;
	hdr->nlmsg_pid = 0;
	hdr->nlmsg_flags = (uint16_t)(hdr->nlmsg_flags | NLM_F_REQUEST | flags);
}

int netsock_get(struct netsock *ns, struct nl_msg *msg, int (*each)(struct nlmsghdr *hdr, void *ctx), void *ctx,
	struct err *err)
{
	struct nlmsghdr *hdr = nlmsg_hdr(msg);
	int failed = 0;

	number(ns, hdr, NLM_F_ACK);
	int rc = send_buffer(ns, hdr, hdr->nlmsg_len);
	while (!rc) {
		int left = receive(ns, MSG_DONTWAIT);

		// the answer is there when sendto(2) returns, but for a handler that ends with EINTR: it gets none
		if (left == -EAGAIN)
			left = -EINTR;
		if (left < 0) {
			rc = left;
			break;
		}
		for (struct nlmsghdr *in = (struct nlmsghdr *)(void *)ns->buffer; nlmsg_ok(in, left);
			in = nlmsg_next(in, &left)) {
			if (in->nlmsg_seq != ns->seq)
				continue;
			if (in->nlmsg_type != NLMSG_ERROR) {
				if (each && !failed)
					failed = each(in, ctx);
				continue;
			}
			rc = netsock_error(in, err);
			if (!rc && failed)
				rc = err_set(
					err, failed, NULL, "cannot read the kernel's answer: %s", strerror(-failed));
			return rc;
		}
	}
	return err_set(err, rc, NULL, "netlink: %s", strerror(-rc));
}

int netsock_transact(struct netsock *ns, struct nl_msg *msg, struct err *err)
{
	return netsock_get(ns, msg, NULL, NULL, err);
}

// One datagram of a dump's answer. 1: more follow; 0: that was all; -EAGAIN: it was interrupted; or -errno.
// After an error of ours the rest is read and thrown away: the socket must be empty for the next request.
static int dump_datagram(struct netsock *ns, struct dump_state *dump, int (*each)(struct nlmsghdr *hdr, void *ctx),
	void *ctx, struct err *err)
{
	int left = receive(ns, 0);

	if (left == -ENOBUFS)
		return -EAGAIN;
	if (left < 0)
		return err_set(err, left, NULL, "netlink: %s", strerror(-left));
	for (struct nlmsghdr *in = (struct nlmsghdr *)(void *)ns->buffer; nlmsg_ok(in, left);
		in = nlmsg_next(in, &left)) {
		if (in->nlmsg_seq != ns->seq)
			continue;
		if (in->nlmsg_flags & NLM_F_DUMP_INTR)
			dump->interrupted = true;
		if (in->nlmsg_type == NLMSG_ERROR)
			return netsock_error(in, err);
		if (in->nlmsg_type == NLMSG_DONE) {
			// an error in the middle of a dump comes as the number in the DONE message
			int end = in->nlmsg_len >= NLMSG_LENGTH(sizeof(int)) ? *(int *)nlmsg_data(in) : 0;

			if (end < 0 && !dump->failed)
				return err_set(err, end, NULL, "%s", strerror(-end));
			return dump->failed ? dump->failed : dump->interrupted ? -EAGAIN : 0;
		}
		if (!dump->failed && !dump->interrupted) {
			dump->failed = each(in, ctx);
			if (dump->failed)
				err_set(err, dump->failed, NULL, "cannot read the kernel's answer: %s",
					strerror(-dump->failed));
		}
	}
	return 1;
}

int netsock_dump_start(struct netsock *ns, struct nl_msg *msg, struct err *err)
{
	struct nlmsghdr *hdr = nlmsg_hdr(msg);

	number(ns, hdr, NLM_F_DUMP);
	ns->dump = (struct dump_state) { 0 };
	int rc = send_buffer(ns, hdr, hdr->nlmsg_len);
	return rc ? err_set(err, rc, NULL, "netlink: %s", strerror(-rc)) : 0;
}

int netsock_dump_next(struct netsock *ns, int (*each)(struct nlmsghdr *hdr, void *ctx), void *ctx, struct err *err)
{
	return dump_datagram(ns, &ns->dump, each, ctx, err);
}

// One attempt of a dump. -EAGAIN: it was interrupted.
static int dump_once(struct netsock *ns, struct nl_msg *msg, int (*each)(struct nlmsghdr *hdr, void *ctx), void *ctx,
	struct err *err)
{
	int rc = netsock_dump_start(ns, msg, err);

	if (rc)
		return rc;
	do
		rc = netsock_dump_next(ns, each, ctx, err);
	while (rc > 0);
	return rc;
}

int netsock_dump(struct netsock *ns, struct nl_msg *msg, int (*each)(struct nlmsghdr *hdr, void *ctx),
	void (*restart)(void *ctx), void *ctx, struct err *err)
{
	int rc = -EAGAIN;

	for (int i = 0; i < DUMP_ATTEMPTS && rc == -EAGAIN; i++) {
		if (i && restart)
			restart(ctx);
		rc = dump_once(ns, msg, each, ctx, err);
	}
	if (rc == -EAGAIN)
		err_set(err, rc, NULL, "the kernel's table changed during each of %d attempts to read it",
			DUMP_ATTEMPTS);
	return rc;
}

int netsock_list_add(struct netsock_list *list, const void *item)
{
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 16;
		void *items = reallocarray(list->items, room, list->size);

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->room = room;
	}
	memcpy((char *)list->items + list->count++ * list->size, item, list->size);
	return 0;
}

struct list_dump {
	int (*each)(struct nlmsghdr *hdr, void *list);
	struct netsock_list *list;
	size_t kept; // items that were there before the dump
};

static int list_each(struct nlmsghdr *hdr, void *ctx)
{
	struct list_dump *dump = ctx;

	return dump->each(hdr, dump->list);
}

static void list_restart(void *ctx)
{
	struct list_dump *dump = ctx;

	dump->list->count = dump->kept;
}

int netsock_dump_list(struct netsock *ns, struct nl_msg *msg, int (*each)(struct nlmsghdr *hdr, void *list),
	struct netsock_list *list, struct err *err)
{
	struct list_dump dump = { each, list, list->count };
	int rc = netsock_dump(ns, msg, list_each, list_restart, &dump, err);

	if (rc)
		list->count = dump.kept;
	return rc;
}

static int take_family(struct nlmsghdr *hdr, void *ctx)
{
	struct nlattr *attrs[CTRL_ATTR_MAX + 1];

	if (genlmsg_parse(hdr, 0, attrs, CTRL_ATTR_MAX, NULL) < 0 || !attrs[CTRL_ATTR_FAMILY_ID])
		return -EBADMSG;
	*(uint16_t *)ctx = nla_get_u16(attrs[CTRL_ATTR_FAMILY_ID]);
	return 0;
}

int netsock_genl_family(struct netsock *ns, const char *name, uint16_t *ret_id, struct err *err)
{
	struct nl_msg *msg = nlmsg_alloc_size(256);
	uint16_t id = 0;

	if (!msg || !genlmsg_put(msg, 0, 0, GENL_ID_CTRL, 0, 0, CTRL_CMD_GETFAMILY, 1) ||
		nla_put_string(msg, CTRL_ATTR_FAMILY_NAME, name)) {
		nlmsg_free(msg);
		return err_set(err, -ENOMEM, NULL, "out of memory");
	}
	int rc = netsock_get(ns, msg, take_family, &id, err);

	nlmsg_free(msg);
	if (!rc && !id)
		rc = err_set(err, -ENOENT, NULL, "the kernel has no generic netlink family %s", name);
	if (!rc)
		*ret_id = id;
	return rc;
}

// --- batch ---

struct netsock_batch {
	struct netsock *ns;
	netsock_refused_fn refused;
	void *ctx;
	char *buffer;
	size_t len, last; // bytes filled, where the last message begins
	uint32_t first_seq;
	void **cookies; // by nlmsg_seq - first_seq
	size_t count, room;
	size_t sent, syscalls;
};

int netsock_batch_new(struct netsock *ns, netsock_refused_fn refused, void *ctx, struct netsock_batch **ret)
{
	struct netsock_batch *batch = calloc(1, sizeof(*batch));

	if (!batch || !(batch->buffer = malloc(BUFFER_SIZE))) {
		free(batch);
		return -ENOMEM;
	}
	batch->ns = ns;
	batch->refused = refused;
	batch->ctx = ctx;
	*ret = batch;
	return 0;
}

void netsock_batch_free(struct netsock_batch *batch)
{
	if (!batch)
		return;
	free(batch->buffer);
	free(batch->cookies);
	free(batch);
}

size_t netsock_batch_sent(const struct netsock_batch *batch)
{
	return batch->sent;
}

size_t netsock_batch_syscalls(const struct netsock_batch *batch)
{
	return batch->syscalls;
}

// Reads answers until the one for the last message of the batch.
static int collect(struct netsock_batch *batch)
{
	uint32_t last_seq = batch->first_seq + (uint32_t)batch->count - 1;

	for (;;) {
		int left = receive(batch->ns, 0);

		batch->syscalls++;
		if (left < 0)
			return left;
		for (struct nlmsghdr *in = (struct nlmsghdr *)(void *)batch->ns->buffer; nlmsg_ok(in, left);
			in = nlmsg_next(in, &left)) {
			uint32_t index = in->nlmsg_seq - batch->first_seq;
			struct err why = { 0 };

			if (in->nlmsg_type != NLMSG_ERROR || index >= batch->count)
				continue;
			int rc = netsock_error(in, &why);
			if (rc && batch->refused)
				batch->refused(batch->ctx, batch->cookies[index], rc, &why);
			if (in->nlmsg_seq == last_seq)
				return 0;
		}
	}
}

int netsock_batch_flush(struct netsock_batch *batch)
{
	if (!batch->count)
		return 0;
	struct nlmsghdr *last = (struct nlmsghdr *)(void *)(batch->buffer + batch->last);

	last->nlmsg_flags |= NLM_F_ACK;
	int rc = send_buffer(batch->ns, batch->buffer, batch->len);
	batch->syscalls++;
	if (!rc) {
		batch->sent += batch->count;
		rc = collect(batch);
	}
	batch->len = batch->count = 0;
	return rc;
}

int netsock_batch_add(struct netsock_batch *batch, struct nl_msg *msg, void *cookie)
{
	struct nlmsghdr *hdr = nlmsg_hdr(msg);
	size_t len = NLMSG_ALIGN(hdr->nlmsg_len);

	if (len > BUFFER_SIZE)
		return -EMSGSIZE;
	// numbers of one batch are consecutive: another request in between closes it
	bool gap = batch->count && batch->ns->seq + 1 != batch->first_seq + (uint32_t)batch->count;
	if (gap || batch->len + len > BUFFER_SIZE) {
		int rc = netsock_batch_flush(batch);

		if (rc)
			return rc;
	}
	if (batch->count == batch->room) {
		size_t room = batch->room ? 2 * batch->room : 64;
		void **cookies = reallocarray(batch->cookies, room, sizeof(*cookies));

		if (!cookies)
			return -ENOMEM;
		batch->cookies = cookies;
		batch->room = room;
	}
	number(batch->ns, hdr, 0);
	if (!batch->count)
		batch->first_seq = hdr->nlmsg_seq;
	memset(batch->buffer + batch->len, 0, len);
	memcpy(batch->buffer + batch->len, hdr, hdr->nlmsg_len);
	batch->last = batch->len;
	batch->len += len;
	batch->cookies[batch->count++] = cookie;
	return 0;
}

// --- events ---

int netsock_subscribe(int protocol, const int *groups, struct netsock **ret, struct err *err)
{
	_cleanup_(netsock_free_cleanup) struct netsock *ns = NULL;
	int rc = open_socket(protocol, &ns, err);

	if (rc)
		return rc;
	for (; *groups; groups++)
		if (setsockopt(ns->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, groups, sizeof(*groups)))
			return err_set(
				err, -errno, NULL, "cannot listen to netlink group %d: %s", *groups, strerror(errno));
	*ret = STEAL(ns);
	return 0;
}

int netsock_receive(struct netsock *ns, void (*each)(struct nlmsghdr *hdr, void *ctx), void *ctx)
{
	int count = 0;
	bool lost = false;

	for (;;) {
		int left = receive(ns, MSG_DONTWAIT);

		if (left == -EAGAIN)
			return lost ? -ENOBUFS : count;
		if (left == -ENOBUFS || left == -EMSGSIZE) {
			lost = true;
			continue;
		}
		if (left < 0)
			return left;
		for (struct nlmsghdr *in = (struct nlmsghdr *)(void *)ns->buffer; nlmsg_ok(in, left);
			in = nlmsg_next(in, &left)) {
			count++;
			if (each)
				each(in, ctx);
		}
	}
}
