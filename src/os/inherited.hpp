#pragma once

/// What a process gets from the one that starts it, and had better not rely on. Each function is called
/// before there is a second thread.
namespace curvegate::os {

/// Opens /dev/null in the place of each of the descriptors 0, 1 and 2 that is closed. To be called before
/// anything is opened: the first file would become standard error, and what is printed would go into it.
/// Returns false if there is no /dev/null.
[[nodiscard]] bool fill_standard_descriptors() noexcept;

/// Closes every descriptor from `first` on.
void close_descriptors_from(int first) noexcept;

/// Removes all variables of the environment, and overwrites them where they lie.
void clear_environment() noexcept;

}  // namespace curvegate::os
