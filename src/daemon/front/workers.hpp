#pragma once

#include "io/asio.hpp"
#include "serve/worker.hpp"

#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace curvegate::daemon::front {

/// The workers, a thread each, as the front's own thread sees them. All that is called here is called on that
/// thread, and all answers come back to it.
class Workers {
  public:
    /// `front` is the loop of the front's thread, which outlives this.
    explicit Workers(asio::io_context& front) : front_(front) {}
    ~Workers() { stop(); }
    Workers(const Workers&) = delete;
    Workers& operator=(const Workers&) = delete;

    /// Makes one; it does nothing before start(). `vault_lost` is called whenever its connection to the vault
    /// ends. Errors as serve::Worker::create.
    [[nodiscard]] Result<> add(const serve::Shared& shared, std::function<void()> vault_lost);
    /// Throws std::system_error if a thread cannot be had; those that were started have been stopped then.
    void start();
    void stop();  ///< and waits for their threads

    [[nodiscard]] std::size_t size() const noexcept { return workers_.size(); }
    void attach_vault(std::size_t worker, os::UniqueFd connection);

    using EndedFn = std::function<void(std::size_t ended)>;
    /// From now on these are the peers and these the doors of each worker. `done` is called with how many
    /// connections were ended for it.
    void apply(const serve::Worker::RegistryPtr& peers, std::vector<std::vector<serve::Door>> doors,
               EndedFn done);
    /// The same for the peers alone.
    void apply(const serve::Worker::RegistryPtr& peers, EndedFn done);

    using Reports = std::vector<serve::Worker::Report>;
    /// Round through every worker: one that hangs keeps `done` from being called.
    void report(const std::function<void(const Reports&)>& done);

    /// Accept no more; `when_empty` is called when the last connection has ended.
    void drain(const std::function<void()>& when_empty);
    [[nodiscard]] bool is_draining() const noexcept { return draining_ > 0; }
    void cut();  ///< ends what is left

  private:
    [[nodiscard]] std::function<serve::Worker::AppliedFn()> gather(EndedFn done);

    asio::io_context& front_;
    std::vector<std::unique_ptr<serve::Worker>> workers_;
    std::vector<std::thread> threads_;
    std::size_t draining_ = 0;  // workers that have connections left
};

}  // namespace curvegate::daemon::front
