# SPDX-License-Identifier: GPL-2.0-or-later
# cpack: a Debian package of what is installed.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME leakwatch)
set(CPACK_PACKAGE_VENDOR "the leakwatch authors")
set(CPACK_PACKAGE_CONTACT "leakwatch maintainers <maintainers@leakwatch.invalid>"
    CACHE STRING "Maintainer of the package, NAME <ADDRESS>: who builds it, unless told otherwise")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "report the memory of a running process that outlives a threshold")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"leakwatch attaches to a running process, watches its allocator, and reports
the blocks of memory that have outlived a threshold, with the call stack that
allocated each. Then it detaches, and the process runs on: it is neither
rebuilt nor restarted, needs no preparation, and is left as it was.
.
It is for whoever is on call for a daemon whose memory grows. Reports are
text, JSON, flame graphs, and profiles for pprof, jeprof and ms_print.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION devel)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# What Debian wants beside and otherwise.
configure_file(cmake/debian/changelog.in debian/changelog @ONLY)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/debian.cmake)
set(CPACK_LEAKWATCH_CHANGELOG ${PROJECT_BINARY_DIR}/debian/changelog)
include(CPack)
