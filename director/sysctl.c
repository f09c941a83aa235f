// SPDX-License-Identifier: Apache-2.0
#include "director/sysctl.h"

#include "shared/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

int sysctl_tune_ipvs(struct err *err)
{
	static const char *const names[] = { "expire_nodest_conn", "expire_quiescent_template" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[80];

		snprintf(path, sizeof(path), "/proc/sys/net/ipv4/vs/%s", names[i]);
		_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "1", 1) != 1)
			return err_set(
				err, -errno, NULL, "cannot set net/ipv4/vs/%s to 1: %s", names[i], strerror(errno));
	}
	return 0;
}

bool sysctl_forwards(int family)
{
	const char *path =
		family == AF_INET6 ? "/proc/sys/net/ipv6/conf/all/forwarding" : "/proc/sys/net/ipv4/ip_forward";
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char value = '0';

	return fd >= 0 && read(fd, &value, 1) == 1 && value != '0';
}
