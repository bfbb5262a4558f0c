/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/notify.h"
#include "control/child.h"
#include "control/daemon.h"
#include "megalith/version.h"

#define ACCOUNT	 "megalith" /* user of the proxy, group of the operators */
#define FALLBACK "nobody"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
#define N_SIGNALS (sizeof(signals) / sizeof(signals[0]))

struct account { /* of the proxy, and of the control socket's group */
	bool known;
	uid_t uid;
	gid_t gid;
	bool operators; /* the group is one of operators, not everybody's leftover */
};

struct daemon {
	const struct daemon_options *options;
	struct account account;
	uv_loop_t loop;
	bool has_loop;
	struct control *control; /* NULL once stopping */
	struct child *child;
	uv_signal_t signals[N_SIGNALS];
	size_t n_signals; /* open */
	bool stopping;
	bool made_run_dir;
	int lock; /* -1: not held */
	char lock_path[PATH_MAX], socket_path[PATH_MAX], child_lock[PATH_MAX];
	char proxy[PATH_MAX];
	char arg_run_dir[PATH_MAX], arg_program[16], arg_option[16], arg_verbose[4];
	char *args[5];
};

static int fail(const char *what, int err)
{
	log_error("%s: %s", what, strerror(-err));
	return EXIT_FAILED;
}

/* --- before the loop --- */

/* On stderr, and frees them. The exit code. */
static int errors_say(struct buf *errors)
{
	fputs(errors->data ? errors->data : "out of memory\n", stderr);
	buf_fini(errors);
	return EXIT_USAGE;
}

static struct model *config_read(const char *path)
{
	struct buf errors = {0};
	struct model *model = control_config_load(path, &errors);

	if (!model && errors.data)
		fputs(errors.data, stderr);
	buf_fini(&errors);
	return model;
}

int daemon_check(const char *config)
{
	struct model *model = config_read(config);
	struct buf errors = {0};
	int code = EXIT_DONE;

	if (!model)
		return EXIT_USAGE;
	if (control_keys_check(model, &errors))
		code = errors_say(&errors);
	else
		printf("%s: ok: %zu nodes, %zu personas, %zu models\n", config, model->n_nodes,
		       model->n_personas, model->n_aliases);
	model_free(model);
	return code;
}

/* Only root can give the socket to a group, and be somebody else in a child. */
static struct account account_find(void)
{
	struct account account = {0};
	const struct passwd *user;
	const struct group *group;

	if (geteuid() != 0)
		return account;
	user = getpwnam(ACCOUNT);
	if (!user)
		user = getpwnam(FALLBACK);
	if (!user)
		return account;
	account.known = true;
	account.uid = user->pw_uid;
	account.gid = user->pw_gid;
	account.operators = strcmp(user->pw_name, ACCOUNT) == 0;
	group = getgrnam(ACCOUNT);
	if (group) {
		account.gid = group->gr_gid;
		account.operators = true;
	}
	return account;
}

static int paths_make(struct daemon *daemon)
{
	const char *dir = daemon->options->run_dir;
	const struct {
		char *path;
		const char *name;
	} files[] = {
		{daemon->lock_path, "megalithd.lock"},
		{daemon->socket_path, "control.sock"},
		{daemon->child_lock, "megalith-proxy.lock"},
	};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		int n = snprintf(files[i].path, PATH_MAX, "%s/%s", dir, files[i].name);

		if (n < 0 || n >= PATH_MAX)
			return -ENAMETOOLONG;
	}
	return 0;
}

/*
 * The folder is 0750 and of the socket's group. One that was there before is only opened to that
 * group, and only when it is ours and closed to others: what an administrator made readable stays
 * as it is.
 */
static int run_dir_make(struct daemon *daemon)
{
	const struct account *account = &daemon->account;
	const char *dir = daemon->options->run_dir;
	struct stat st;

	if (mkdir(dir, 0750) == 0)
		daemon->made_run_dir = true;
	else if (errno != EEXIST)
		return -errno;
	if (stat(dir, &st) == -1)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	if (st.st_uid != geteuid() || (!daemon->made_run_dir && st.st_mode & S_IRWXO))
		return 0;
	if (account->known && chown(dir, (uid_t)-1, account->gid) == -1)
		return -errno;
	return chmod(dir, 0750) == -1 ? -errno : 0;
}

static int lock_get(struct daemon *daemon)
{
	struct lock_holder holder;
	int err = lock_take(daemon->lock_path, &daemon->lock);

	if (!err) {
		lock_write(daemon->lock_path, getpid(), MEGALITH_VERSION);
		return 0;
	}
	daemon->lock = -1;
	if (err != -EWOULDBLOCK)
		return fail(daemon->lock_path, err);
	lock_held(daemon->lock_path, &holder);
	log_error("another megalithd (pid %ld) runs in %s", (long)holder.pid,
		  daemon->options->run_dir);
	return EXIT_FAILED;
}

/* megalith-proxy beside our own binary: both are of one version. */
static int proxy_find(struct daemon *daemon)
{
	size_t len = sizeof(daemon->proxy);
	char *slash;
	int err = uv_exepath(daemon->proxy, &len);

	if (err)
		return fail("the path of megalithd is not known", err);
	slash = strrchr(daemon->proxy, '/');
	len = slash ? (size_t)(slash + 1 - daemon->proxy) : 0;
	snprintf(daemon->proxy + len, sizeof(daemon->proxy) - len, "megalith-proxy");
	if (access(daemon->proxy, X_OK) == 0)
		return 0;
	log_error("%s: %s (--no-proxy goes on without)", daemon->proxy, strerror(errno));
	return EXIT_FAILED;
}

static int prepare(struct daemon *daemon)
{
	int err;

	if (!daemon->options->no_proxy && proxy_find(daemon))
		return EXIT_FAILED;
	err = paths_make(daemon);
	if (!err)
		err = run_dir_make(daemon);
	if (err)
		return fail(daemon->options->run_dir, err);
	return lock_get(daemon);
}

/* --- start --- */

static enum datapath_mode mode_wanted(const struct daemon *daemon)
{
	const struct daemon_options *options = daemon->options;

	return options->has_datapath ? options->datapath
				     : daemon->control->state.model->gateway.datapath;
}

static int datapath_start(struct daemon *daemon)
{
	const struct model *model = daemon->control->state.model;
	struct datapath_options options = {
		.bpf_dir = daemon->options->bpf_dir,
		.mode = mode_wanted(daemon),
		.interfaces = model->gateway.interfaces,
		.n_interfaces = model->gateway.n_interfaces,
		.addresses = model->gateway.addresses,
		.n_addresses = model->gateway.n_addresses,
		.snat_first = model->gateway.snat_first,
		.snat_last = model->gateway.snat_last,
		.max_flows = model->gateway.max_flows,
	};
	struct datapath_error error = {.text = ""};
	struct datapath *datapath;

	if (options.mode == DATAPATH_NONE)
		return 0;
	datapath = datapath_open(&options, &error);
	if (!datapath) {
		log_error("%s", *error.text ? error.text : "the datapath cannot be opened");
		return EXIT_FAILED;
	}
	control_datapath_set(daemon->control, datapath);
	return 0;
}

/* Whoever wants no proxy of ours (a unit of its own has the ports) wants none of an earlier
 * controller either. Later we could not: the right to end it goes. */
static void proxy_end_left(const struct daemon *daemon)
{
	struct lock_holder holder;

	if (!daemon->options->no_proxy || !lock_held(daemon->child_lock, &holder) || !holder.pid)
		return;
	if (kill(holder.pid, SIGTERM) == 0)
		log_info("--no-proxy: megalith-proxy (pid %ld) of an earlier controller ends",
			 (long)holder.pid);
	else
		log_error("--no-proxy: megalith-proxy (pid %ld) of an earlier controller cannot be "
			  "ended: %s",
			  (long)holder.pid, strerror(errno));
}

static int privileges_drop(const struct daemon *daemon)
{
	struct datapath_error error = {.text = ""};
	int err = datapath_drop_privileges(!daemon->options->no_proxy, &error);

	if (!err)
		return 0;
	log_error("%s", *error.text ? error.text : strerror(-err));
	return EXIT_FAILED;
}

static struct control *control_make(struct daemon *daemon, struct model *model)
{
	const struct daemon_options *options = daemon->options;
	struct control_options wanted = {
		.config = options->config,
		.state_dir = options->state_dir,
		.bpf_dir = options->bpf_dir,
		.access = {.owner_only = !daemon->account.operators,
			   .has_proxy = daemon->account.known,
			   .proxy_uid = daemon->account.uid},
		.watch = options->watch,
		.kick = options->kick,
		.arg = options->arg,
	};

	return control_new(&daemon->loop, &wanted, model);
}

static int child_start(struct daemon *daemon)
{
	struct child_options options = {
		.program = daemon->proxy,
		.args = daemon->args,
		.lock = daemon->child_lock,
		.version = MEGALITH_VERSION,
		.as_user = daemon->account.known,
		.uid = daemon->account.uid,
		.gid = daemon->account.gid,
	};
	size_t n = 0;

	if (daemon->options->no_proxy)
		return 0;
	snprintf(daemon->arg_program, sizeof(daemon->arg_program), "megalith-proxy");
	snprintf(daemon->arg_option, sizeof(daemon->arg_option), "--run-dir");
	snprintf(daemon->arg_run_dir, sizeof(daemon->arg_run_dir), "%s", daemon->options->run_dir);
	snprintf(daemon->arg_verbose, sizeof(daemon->arg_verbose), "-v");
	daemon->args[n++] = daemon->arg_program;
	daemon->args[n++] = daemon->arg_option;
	daemon->args[n++] = daemon->arg_run_dir;
	if (daemon->options->verbose)
		daemon->args[n++] = daemon->arg_verbose;
	daemon->args[n] = NULL;
	daemon->child = child_new(&daemon->loop, &options);
	return daemon->child ? 0 : fail(daemon->proxy, -errno);
}

/* --- end --- */

static void signals_close(struct daemon *daemon)
{
	while (daemon->n_signals > 0)
		uv_close((uv_handle_t *)&daemon->signals[--daemon->n_signals], NULL);
}

/* What serves without us: said in one line, because nothing shows it. */
static void serving_leave(struct daemon *daemon)
{
	pid_t proxy = child_leave(daemon->child);
	char text[96] = "; take it off";

	daemon->child = NULL;
	if (proxy)
		snprintf(text, sizeof(text),
			 ", megalith-proxy (pid %ld) goes on with the last plan; take both off",
			 (long)proxy);
	log_info("stopping; the datapath goes on serving %llu connections%s with megalithctl "
		 "detach",
		 (unsigned long long)control_connections(daemon->control), text);
}

static void datapath_take_off(struct daemon *daemon)
{
	struct datapath_error error = {.text = ""};

	if (control_detach(daemon->control, &error))
		log_error("the datapath could not be taken off: %s", error.text);
	else
		log_info("stopping; the datapath is taken off");
}

static void stop(struct daemon *daemon)
{
	const struct datapath *dp = daemon->control->state.datapath;

	daemon->stopping = true;
	notify_systemd("STOPPING=1");
	if (!dp || datapath_mode_of(dp) == DATAPATH_NONE)
		log_info("stopping");
	else if (daemon->options->detach_on_exit)
		datapath_take_off(daemon);
	else
		serving_leave(daemon);
	control_free(daemon->control);
	daemon->control = NULL;
	child_stop(daemon->child);
	/* the handlers stay for a second signal, but do not keep the loop */
	for (size_t i = 0; i < daemon->n_signals; i++)
		uv_unref((uv_handle_t *)&daemon->signals[i]);
}

static void reload(struct daemon *daemon)
{
	struct buf errors = {0}, note = {0};
	int err = control_reload(daemon->control, &errors, &note);

	if (err)
		log_error("reload: %s; the old configuration stays",
			  err == -EINVAL ? "the configuration has errors" : strerror(-err));
	for (char *line = errors.data; line && *line;) {
		size_t len = strcspn(line, "\n");

		log_error("%.*s", (int)len, line);
		line += len + (line[len] == '\n');
	}
	buf_fini(&errors);
	buf_fini(&note);
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct daemon *daemon = handle->data;

	if (daemon->stopping)
		child_kill(number == SIGHUP ? NULL : daemon->child);
	else if (number == SIGHUP)
		reload(daemon);
	else
		stop(daemon);
}

static int signals_open(struct daemon *daemon)
{
	for (size_t i = 0; i < N_SIGNALS; i++) {
		int err = uv_signal_init(&daemon->loop, &daemon->signals[i]);

		if (err)
			return fail("signals", err);
		daemon->signals[i].data = daemon;
		daemon->n_signals++;
		err = uv_signal_start(&daemon->signals[i], on_signal, signals[i]);
		if (err)
			return fail("signals", err);
	}
	return 0;
}

/* Allowed, and worth a word at each start. */
static void anonymous_say(const struct model *model)
{
	char text[ADDR_TEXT_MAX];

	if (!model->router.keys_file && !addr_is_loopback(&model->router.address))
		log_warn("router: whoever reaches %s may use it, without a key (allow_anonymous)",
			 addr_format_port(&model->router.address, model->router.port, text));
}

static void ready_say(const struct daemon *daemon)
{
	const struct model *model = daemon->control->state.model;
	const struct datapath *dp = daemon->control->state.datapath;
	const struct datapath_interface *list = NULL;
	size_t n = dp ? datapath_interfaces(dp, &list) : 0;
	struct buf names = {0};

	for (size_t i = 0; i < n; i++)
		buf_printf(&names, "%s%s:%s", i ? "," : "", list[i].name,
			   datapath_mode_name(list[i].mode));
	log_info("ready datapath=%s interfaces=%s adopted=%s personas=%zu nodes=%zu proxy=%s "
		 "socket=%s pid=%ld",
		 datapath_mode_name(dp ? datapath_mode_of(dp) : DATAPATH_NONE),
		 names.data ? names.data : "-", dp && datapath_adopted(dp) ? "yes" : "no",
		 model->n_personas, model->n_nodes, daemon->options->no_proxy ? "no" : "yes",
		 daemon->socket_path, (long)getpid());
	buf_fini(&names);
	anonymous_say(model);
	notify_systemd("READY=1");
}

/* The socket comes before the datapath: it is the easier one to take back. */
static int begin(struct daemon *daemon)
{
	gid_t gid = daemon->account.known ? daemon->account.gid : (gid_t)-1;
	int err = control_listen(daemon->control, daemon->socket_path, 0660, gid);

	if (err)
		return fail(daemon->socket_path, err);
	if (datapath_start(daemon))
		return EXIT_FAILED;
	proxy_end_left(daemon);
	if (privileges_drop(daemon) || signals_open(daemon))
		return EXIT_FAILED;
	err = control_start(daemon->control);
	if (err)
		return fail("start", err);
	return child_start(daemon);
}

static int run(struct daemon *daemon, struct model *model)
{
	int err = uv_loop_init(&daemon->loop);
	struct buf errors = {0};

	if (err) {
		model_free(model);
		return fail("event loop", err);
	}
	daemon->has_loop = true;
	daemon->control = control_make(daemon, model);
	if (!daemon->control)
		return fail("start", -errno);
	if (control_keys_load(daemon->control, &errors))
		return errors_say(&errors);
	if (begin(daemon))
		return EXIT_FAILED;
	ready_say(daemon);
	uv_run(&daemon->loop, UV_RUN_DEFAULT);
	return EXIT_DONE;
}

/* In reverse order; also after a start that failed half-way. */
static void clean_up(struct daemon *daemon)
{
	if (daemon->control)
		control_free(daemon->control);
	if (!daemon->stopping)
		child_stop(daemon->child);
	if (daemon->has_loop) {
		signals_close(daemon);
		uv_run(&daemon->loop, UV_RUN_DEFAULT);
		uv_loop_close(&daemon->loop);
	}
	if (daemon->lock == -1)
		return;
	lock_drop(daemon->lock_path, daemon->lock);
	if (daemon->made_run_dir)
		rmdir(daemon->options->run_dir); /* unless somebody else's file is in it */
}

int daemon_run(const struct daemon_options *options)
{
	struct daemon daemon = {.options = options, .lock = -1};
	struct model *model = config_read(options->config);
	int code;

	if (!model)
		return EXIT_USAGE;
	signal(SIGPIPE, SIG_IGN);
	limits_raise(); /* a probe is a descriptor: a large farm needs more than the usual 1,024 */
	daemon.account = account_find();
	code = prepare(&daemon);
	if (code)
		model_free(model);
	else
		code = run(&daemon, model);
	clean_up(&daemon);
	return code;
}
