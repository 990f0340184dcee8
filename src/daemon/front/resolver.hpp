#pragma once

#include "config/config.hpp"
#include "daemon/channel.hpp"
#include "daemon/front/name_table.hpp"
#include "io/dial.hpp"

#include <functional>
#include <string>

namespace curvegate::daemon::front {

/// The workers' resolver: has the parent look names up, and remembers what it said (NameTable). resolve() may
/// be called on any thread; everything else happens on the front's.
class ParentResolver final : public io::Resolver {
  public:
    ParentResolver(asio::io_context& context, std::function<void(const ToParent&)> send);

    void resolve(asio::io_context& caller, const std::string& host, Handler handler) override;
    void resolved(to_front::Resolved message);
    /// Forgets names that the configuration does not have any more.
    void keep_names_of(const config::Config& config);

  private:
    void turn();
    void log_failure(const NameTable::Failure& failure) const;

    asio::io_context& context_;
    std::function<void(const ToParent&)> send_;
    io::Timer timer_;
    NameTable names_;
};

}  // namespace curvegate::daemon::front
