"""What BAiO is, whatever it is stored in, asked through or answered by: entities, rules, ports and use cases."""
