# SPDX-License-Identifier: GPL-2.0-or-later
# Run by cpack when all is installed for the package: makes of it what Debian's policy asks for.
set(share ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr/share)
set(doc ${share}/doc/leakwatch)

# The licence is in the file copyright, which refers to the copy that each Debian has.
file(REMOVE ${doc}/COPYING)
file(MAKE_DIRECTORY ${share}/lintian/overrides)
file(COPY_FILE ${CMAKE_CURRENT_LIST_DIR}/debian/copyright ${doc}/copyright)
file(COPY_FILE ${CMAKE_CURRENT_LIST_DIR}/debian/lintian-overrides ${share}/lintian/overrides/leakwatch)
file(COPY_FILE ${CPACK_LEAKWATCH_CHANGELOG} ${doc}/changelog)
file(CHMOD ${doc}/copyright ${doc}/changelog ${share}/lintian/overrides/leakwatch
     PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
# Debian's zsh does not look into site-functions of packages.
file(MAKE_DIRECTORY ${share}/zsh/vendor-completions)
file(RENAME ${share}/zsh/site-functions/_leakwatch ${share}/zsh/vendor-completions/_leakwatch)
file(REMOVE_RECURSE ${share}/zsh/site-functions)
file(GLOB manuals ${share}/man/man*/*)
# -n: no time of its own, so that the same source makes the same package
execute_process(COMMAND gzip -9nf ${doc}/changelog ${manuals} COMMAND_ERROR_IS_FATAL ANY)
# Whatever the umask is.
file(CHMOD_RECURSE ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr DIRECTORY_PERMISSIONS
     OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
