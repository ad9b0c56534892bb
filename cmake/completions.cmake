# SPDX-License-Identifier: GPL-2.0-or-later
# Completions for bash, zsh and fish, made of what the built program says of its options.
function(leakwatch_completion shell name directory)
  set(script ${PROJECT_SOURCE_DIR}/scripts/completions)
  set(template ${PROJECT_SOURCE_DIR}/src/completions/leakwatch.${shell}.in)
  set(made ${PROJECT_BINARY_DIR}/completions/${shell}/${name})
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/completions/${shell})
  add_custom_command(OUTPUT ${made}
    COMMAND ${script} $<TARGET_FILE:leakwatch> ${template} > ${made}
    DEPENDS leakwatch ${script} ${template} VERBATIM)
  add_custom_target(completion_${shell} ALL DEPENDS ${made})
  install(FILES ${made} DESTINATION ${CMAKE_INSTALL_DATADIR}/${directory})
endfunction()

# Where each shell looks below /usr/local/share; bash and fish look below /usr/share in the same place.
leakwatch_completion(bash leakwatch bash-completion/completions)
leakwatch_completion(zsh _leakwatch zsh/site-functions)
leakwatch_completion(fish leakwatch.fish fish/vendor_completions.d)
