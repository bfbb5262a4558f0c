/* SPDX-License-Identifier: MIT */
/* Folders that the programs take when no option names others. The Makefile overrides them where a
 * system wants other places (a Mac has no /run). */
#ifndef BASE_PATHS_H
#define BASE_PATHS_H

#ifndef CONFIG_DIR
#define CONFIG_DIR "/etc/megalith"
#endif
#ifndef RUN_DIR
#define RUN_DIR "/run/megalith" /* lock and control socket */
#endif
#ifndef STATE_DIR
#define STATE_DIR "/var/lib/megalith" /* the operator's weights and drains */
#endif

#endif
