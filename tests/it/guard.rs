//! The guard, end to end: real daemons, real packets, real nftables, and the real fail2ban beside it (NH-1, NH-2, ID-9, JO-1, JO-2). As
//! root, in network namespaces of their own.

mod bench;
mod command_line;
mod daemons;
mod durability;
mod faults;
mod figures;
mod forged;
mod gate;
mod logins;
mod mail;
mod packet_filter;
mod promises;
mod rotation;
mod states;
mod takeover;
