/* SPDX-License-Identifier: MIT */
/* The version of the programs, written once. */
#ifndef MEGALITH_VERSION_H
#define MEGALITH_VERSION_H

#define MEGALITH_VERSION "0.1.0"

#endif
