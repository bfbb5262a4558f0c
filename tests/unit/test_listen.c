/* SPDX-License-Identifier: MIT */
/* net/listen: what may be listened on, and what is left behind. */
#include <errno.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "net_rig.h"

static void test_listener__unix_path(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct sockaddr_un where = {.sun_family = AF_UNIX};
	struct outcome outcome;
	struct stat status;
	char path[128], *long_path = calloc(1, 300);
	int fd;

	(void)state;
	assert_int_equal(stat(rig->path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_int_equal(server_listen_unix(rig->server, rig->path, 0600, -1), -EADDRINUSE);
	outcome = ask(rig, (struct client_request){.unix_path = rig->path, .target = "/a"});
	expect(&outcome, PROBE_OK, 200, "/a");

	snprintf(path, sizeof(path), "%s/stale", rig->folder);
	memcpy(where.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&where, sizeof(where)), 0);
	close(fd);
	umask(0777);
	assert_int_equal(server_listen_unix(rig->server, path, 0660, (int)getgid()), 0);
	umask(022);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0660);
	outcome = ask(rig, (struct client_request){.unix_path = path, .target = "/b"});
	expect(&outcome, PROBE_OK, 200, "/b");

	snprintf(path, sizeof(path), "%s/file", rig->folder);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(server_listen_unix(rig->server, path, 0600, -1), -EADDRINUSE);
	unlink(path);
	assert_int_equal(symlink(rig->path, path), 0);
	assert_int_equal(server_listen_unix(rig->server, path, 0600, -1), -EADDRINUSE);
	unlink(path);
	memset(long_path, 'x', 299);
	assert_int_equal(server_listen_unix(rig->server, long_path, 0600, -1), -ENAMETOOLONG);
	assert_int_equal(server_listen_unix(rig->server, "/nonexistent/x", 0600, -1), -ENOENT);
	free(long_path);
	rig_free(rig);
}

/* What another process put at the path since is not removed. */
static void test_listener__leaves_a_successors_socket(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);

	(void)state;
	assert_int_equal(unlink(rig->path), 0);
	assert_int_equal(close(open(rig->path, O_CREAT | O_WRONLY, 0600)), 0);
	server_free(rig->server);
	rig->server = NULL;
	assert_int_equal(unlink(rig->path), 0);
	rig_free(rig);
}

static void test_listener__tcp_port_in_use(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	uint16_t port = rig->port;

	(void)state;
	assert_int_equal(server_listen_tcp(rig->server, &rig->loopback, &port), -EADDRINUSE);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_listener__unix_path),
		cmocka_unit_test(test_listener__leaves_a_successors_socket),
		cmocka_unit_test(test_listener__tcp_port_in_use),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
