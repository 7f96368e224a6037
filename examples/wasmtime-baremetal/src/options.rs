/// A machine without signals, without copy-on-write, and without addresses to spare.
fn options() -> Config {
    let mut config = Config::new();
    config.signals_based_traps(false);
    config.memory_init_cow(false);
    config.memory_reservation(0);
    config.memory_reservation_for_growth(0);
    config.memory_guard_size(0);
    config
}
