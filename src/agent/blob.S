/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's code as bytes of leakwatch's own read-only data (leakwatch/agent/blob.h). */
    .section .rodata
    .balign 16
    .globl lw_agent_blob
lw_agent_blob:
    .incbin AGENT_BLOB
1:
    .balign 8
    .globl lw_agent_blob_size
lw_agent_blob_size:
    .quad 1b - lw_agent_blob
    .section .note.GNU-stack, "", @progbits
